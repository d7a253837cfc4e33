import { LonghaulError } from '../platform/errors.js';
import type { BatchStatus } from '../contracts/status.js';
import { removeChildren } from './enqueue.js';
import { raiseCancel } from './flags.js';
import { lanesOf } from './lanes.js';
import { readManifest } from './manifest.js';
import { withQueues, type BatchDeps } from './queues.js';
import { registerBatch } from './record.js';
import { getStatus } from './status.js';

/**
 * Cancels what has no answer yet. Needs no living cohort: waiting items end here, and what this
 * call does not get to, the reconciler ends. Items being run stop when their leader sees the flag.
 * Cancelling again changes nothing.
 * @throws NotFoundError, or LonghaulError `BATCH_FINISHED` when there is nothing left to cancel.
 */
export async function cancelBatch(deps: BatchDeps, id: string, signal?: AbortSignal): Promise<BatchStatus> {
  const before = await getStatus(deps, id, signal);
  if (before.completed_at !== null) {
    throw new LonghaulError(
      'BATCH_FINISHED',
      `batch ${id} is ${before.status} already, there is nothing to cancel; fetch it with \`longhaul results ${id}\``,
    );
  }
  const manifest = await readManifest(deps.store, id, signal);
  // The flag must never stand on a hash without totals, as after an emptied Redis.
  await registerBatch(deps.redis, manifest.header);
  await raiseCancel(deps, id, signal);
  await withQueues(deps.redis, (queues) =>
    removeChildren(queues, id, [...manifest.items.keys()], lanesOf(manifest), signal),
  );
  return getStatus(deps, id, signal);
}
