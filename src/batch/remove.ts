import { LonghaulError, NotFoundError } from '../platform/errors.js';
import { objectKeys, redisKeys } from '../platform/keys.js';
import { mapConcurrently } from './concurrency.js';
import { readHeader } from './header.js';
import { checkBatchId } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { dropBatch } from './record.js';
import { readSuccess } from './success.js';

const DELETERS = 16;

export interface RemoveOptions {
  onProgress?: (removed: number) => void;
  signal?: AbortSignal;
}

/**
 * Removes a finished batch: everything below its folder and the records of its dead items. Documents
 * stay, others may share them; their lifecycle rule ends them.
 *
 * The manifest goes first, which ends the batch for every reader at once, and `_SUCCESS` last: one
 * without the other is a removal that was cut short. It can be repeated, and until it is, neither
 * the reconciler nor a submit of the same batch takes up what is left.
 * @throws LonghaulError `NOT_FINISHED`, NotFoundError.
 */
export async function removeBatch(
  { redis, store }: BatchDeps,
  id: string,
  { onProgress, signal }: RemoveOptions = {},
): Promise<{ objects: number }> {
  if ((await readSuccess(store, checkBatchId(id), signal)) === undefined) {
    await readHeader(store, id, signal);
    throw new LonghaulError(
      'NOT_FINISHED',
      `batch ${id} is not finished; end it with \`longhaul cancel ${id}\` and remove it then`,
    );
  }
  await store.delete(objectKeys.manifest(id), signal);
  await dropBatch(redis, id, { ifFinished: false });
  let removed = 1;
  const keys: string[] = [];
  for (const folder of [objectKeys.batch(id), objectKeys.deadOf(id)]) {
    for await (const key of store.list(folder, signal)) if (key !== objectKeys.success(id)) keys.push(key);
  }
  const remove = async (key: string): Promise<void> => {
    await store.delete(key, signal);
    onProgress?.(++removed);
  };
  await mapConcurrently(keys, DELETERS, remove, signal);
  await remove(objectKeys.success(id));
  // Once more: a reconciler that had read `_SUCCESS` before may have told Redis in between. And none may
  // take a batch that is submitted again for the one that it knew to be finished.
  await dropBatch(redis, id, { ifFinished: false });
  await redis.del(redisKeys.incarnation());
  return { objects: removed };
}

/**
 * Refuses an id whose manifest is gone while `_SUCCESS` is there.
 * @throws LonghaulError `HALF_REMOVED`
 */
export async function refuseHalfRemoved(
  { store }: Pick<BatchDeps, 'store'>,
  id: string,
  signal?: AbortSignal,
): Promise<void> {
  if (!(await store.exists(objectKeys.success(id), signal))) return;
  try {
    await readHeader(store, id, signal);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new LonghaulError(
      'HALF_REMOVED',
      `batch ${id} was removed, and some of it is left; finish that with \`longhaul batch rm ${id}\`, or use --new`,
    );
  }
}
