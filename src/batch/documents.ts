import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import { LonghaulError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { mapConcurrently } from './concurrency.js';
import type { BatchDeps } from './queues.js';
import { READERS } from './sync.js';

const DAY_MS = 24 * 3600 * 1000;

/**
 * A document that a new batch refers to is at most this old. Lifecycle rules count from an object's
 * writing, so one that keeps documents this much longer than batches takes none from a living batch.
 */
export const DOCUMENT_REFRESH_DAYS = 7;

/**
 * Makes sure that the documents of a new batch are there and stay as long as it: older ones are
 * written again. `users` names a request for each document, for the error.
 * @throws LonghaulError `DOCUMENT_GONE`
 */
export async function keepDocuments(
  { store }: Pick<BatchDeps, 'store'>,
  users: ReadonlyMap<string, string>,
  signal?: AbortSignal,
): Promise<void> {
  const keep = async ([sha256, customId]: [string, string]): Promise<void> => {
    const key = objectKeys.document(sha256);
    const written = await store.modifiedAt(key, signal);
    if (written === undefined) {
      throw new LonghaulError(
        'DOCUMENT_GONE',
        `${store.url(key)}, the document of request ${customId}, is no longer in S3; submit the input file again`,
      );
    }
    if (Date.now() - written.getTime() > DOCUMENT_REFRESH_DAYS * DAY_MS) {
      await store.put(key, [await store.get(key, signal)], signal);
    }
  };
  await mapConcurrently([...users], READERS, keep, signal);
}

export interface StoredDocument {
  sha256: string;
  tokens: number;
}

/** Ids as they are stored: little-endian uint32. */
export function documentBytes(ids: Uint32Array): Buffer {
  const bytes = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength);
  return endianness() === 'BE' ? Buffer.from(bytes).swap32() : bytes;
}

/** Stores a document that is in memory under the hash of tokenizer digest and ids, or finds it there. */
export async function storeDocument(
  { store }: { store: ObjectStore },
  digest: string,
  bytes: Buffer,
  signal?: AbortSignal,
): Promise<StoredDocument & { existed: boolean }> {
  const sha256 = createHash('sha256').update(digest).update(bytes).digest('hex');
  const stored = await store.createStream(objectKeys.document(sha256), [bytes], signal);
  return { sha256, tokens: bytes.byteLength / 4, existed: stored === 'exists' };
}
