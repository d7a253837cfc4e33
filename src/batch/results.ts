import { createHash } from 'node:crypto';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Success } from '../contracts/outcome.js';
import { StoreError } from '../platform/errors.js';
import type { ObjectStore } from '../platform/object-store.js';
import { canonicalJson } from './canonical.js';
import type { BatchDeps } from './queues.js';
import { requireSuccess } from './success.js';

/** Bytes of one ranged read: what a download holds in memory. */
const RANGE = 8 * 1024 * 1024;

export interface Results {
  success: Success;
  /** Paths of the files written. */
  output: string;
  error: string;
}

/**
 * Downloads a finished batch into `directory`: `output.jsonl`, `error.jsonl` and, last, `_SUCCESS`.
 * Each file is checked against its sha256 and appears whole or not at all.
 * @throws LonghaulError `NOT_FINISHED` before `_SUCCESS`, NotFoundError, StoreError `SHA256`.
 */
export async function downloadResults(
  deps: Pick<BatchDeps, 'store'>,
  id: string,
  directory: string,
  signal?: AbortSignal,
): Promise<Results> {
  const success = await requireSuccess(deps.store, id, signal);
  await mkdir(directory, { recursive: true });
  const output = join(directory, 'output.jsonl');
  const error = join(directory, 'error.jsonl');
  await download(deps.store, success.files.output, output, signal);
  await download(deps.store, success.files.error, error, signal);
  const marker = join(directory, '_SUCCESS');
  await writeFile(marker + '.part', canonicalJson(success) + '\n', { signal });
  await rename(marker + '.part', marker);
  return { success, output, error };
}

async function download(
  store: ObjectStore,
  file: Success['files']['output'],
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  const part = `${path}.${process.pid}.part`;
  const hash = createHash('sha256');
  try {
    const handle = await open(part, 'w');
    try {
      for (let start = 0; start < file.bytes; start += RANGE) {
        const range = await store.getRange(file.key, start, Math.min(start + RANGE, file.bytes), signal);
        hash.update(range);
        await handle.writeFile(range);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    const sha256 = hash.digest('hex');
    if (sha256 !== file.sha256) {
      throw new StoreError(
        'SHA256',
        `${store.url(file.key)} has sha256 ${sha256}, _SUCCESS says ${file.sha256}; the object was changed after the batch finished`,
      );
    }
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
}
