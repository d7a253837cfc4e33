import { manifestHeader, type ManifestHeader } from '../contracts/manifest.js';
import { LonghaulError, NotFoundError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { checkBatchId, notFound } from './manifest.js';

/** A header takes some 600 bytes; a file name and an id are bounded. */
const MAX_BYTES = 16 * 1024;

/**
 * Line 1 of a manifest alone, which may have tens of thousands.
 * @throws NotFoundError when there is no such batch.
 */
export async function readHeader(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<ManifestHeader> {
  let bytes: Buffer;
  try {
    bytes = await store.getStart(objectKeys.manifest(checkBatchId(id)), MAX_BYTES, signal);
  } catch (error) {
    throw error instanceof NotFoundError ? notFound(id) : error;
  }
  const newline = bytes.indexOf(10);
  try {
    return manifestHeader.parse(JSON.parse(bytes.toString('utf8', 0, newline < 0 ? undefined : newline)));
  } catch (cause) {
    throw new LonghaulError('MANIFEST', `line 1 of the manifest of batch ${id} is not a header`, { cause });
  }
}
