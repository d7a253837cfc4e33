/** What the gateway keeps in S3, and how it is read. Nothing of it is in Redis, so nothing is lost with Redis. */
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson } from '../batch/canonical.js';
import { ifFound, StoreError } from '../platform/errors.js';
import type { CreateResult, ObjectStore } from '../platform/object-store.js';

/** Unix seconds. */
const time = z.int();

export const fileRecord = z.strictObject({
  format: z.literal('longhaul-gateway-file/1'),
  id: z.string(),
  bytes: z.int(),
  sha256: z.string(),
  created_at: time,
  expires_at: time.nullable(),
  filename: z.string(),
  purpose: z.enum(['batch', 'batch_output']),
  /** The key of its bytes. */
  content: z.string(),
  /** The record stays, so that a batch's file that was deleted is not made again. */
  deleted: z.boolean(),
});
export type FileRecord = z.infer<typeof fileRecord>;

export const batchRecord = z.strictObject({
  format: z.literal('longhaul-gateway-batch/1'),
  id: z.string(),
  input_file_id: z.string(),
  endpoint: z.string(),
  completion_window: z.string(),
  metadata: z.record(z.string(), z.string()).nullable(),
  created_at: time,
  expires_at: time,
  /** Seconds after the end of the batch. */
  output_expires_after: z.int().nullable(),
});
export type BatchRecord = z.infer<typeof batchRecord>;

export const failureRecord = z.strictObject({
  format: z.literal('longhaul-gateway-failure/1'),
  failed_at: time,
  errors: z.array(
    z.strictObject({
      code: z.string(),
      line: z.int().nullable(),
      message: z.string(),
      param: z.string().nullable(),
    }),
  ),
});
export type FailureRecord = z.infer<typeof failureRecord>;

export async function readRecord<T>(
  store: ObjectStore,
  key: string,
  schema: z.ZodType<T>,
): Promise<T | undefined> {
  const bytes = await ifFound(store.get(key));
  if (bytes === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new StoreError('GATEWAY_RECORD', `${store.url(key)} is not what the gateway writes there`, {
      cause,
    });
  }
}

export function createRecord(store: ObjectStore, key: string, record: object): Promise<CreateResult> {
  return store.create(key, canonicalJson(record) + '\n');
}

export async function replaceRecord(store: ObjectStore, key: string, record: object): Promise<void> {
  await store.put(key, [Buffer.from(canonicalJson(record) + '\n')]);
}

/** Ids below `gateway/<kind>/<owner>/`, newest first: see `drawId`. */
export async function* listIds(store: ObjectStore, folder: string, after?: string): AsyncGenerator<string> {
  const start = after === undefined ? undefined : `${folder}${after}.json`;
  for await (const key of store.list(folder, undefined, start))
    yield key.slice(folder.length).replace(/\.json$/, '');
}

export const batchIdPattern = /^batch_[0-9a-f]{32}$/;
export const fileIdPattern = /^file-[0-9a-f]{32}(-output|-error)?$/;

const LATEST = 2 ** 48 - 1;

/** Begins with the time from a far future backwards, so that S3's order of keys is newest first. */
export function drawId(prefix: 'batch_' | 'file-', now = Date.now()): string {
  return prefix + (LATEST - now).toString(16).padStart(12, '0') + randomBytes(10).toString('hex');
}

export const outputFileId = (batch: string, which: 'output' | 'error'): string =>
  `${batch.replace('batch_', 'file-')}-${which}`;

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
