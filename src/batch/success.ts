import { success, type Success } from '../contracts/outcome.js';
import { ifFound, LonghaulError, StoreError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { readHeader } from './header.js';
import { checkBatchId } from './manifest.js';

/** The batch's `_SUCCESS`; undefined while it is not finished. */
export async function readSuccess(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<Success | undefined> {
  const bytes = await ifFound(store.get(objectKeys.success(id), signal));
  if (bytes === undefined) return undefined;
  try {
    return success.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new StoreError('SUCCESS_CORRUPT', `${store.url(objectKeys.success(id))} is not a _SUCCESS file`, {
      cause,
    });
  }
}

/**
 * Likewise, of a batch that must be finished.
 * @throws LonghaulError `NOT_FINISHED` before, NotFoundError when there is no such batch.
 */
export async function requireSuccess(store: ObjectStore, id: string, signal?: AbortSignal): Promise<Success> {
  const found = await readSuccess(store, checkBatchId(id), signal);
  if (found !== undefined) return found;
  await readHeader(store, id, signal);
  throw new LonghaulError(
    'NOT_FINISHED',
    `batch ${id} is not finished; follow it with \`longhaul status ${id} --watch\``,
  );
}

/** When the batch was finished, in Unix seconds: `_SUCCESS` itself carries no clock. */
export async function finishedAt(store: ObjectStore, id: string, signal?: AbortSignal): Promise<number> {
  const modified = await store.modifiedAt(objectKeys.success(id), signal);
  return Math.floor((modified?.getTime() ?? 0) / 1000);
}
