import { jobIds, redisKeys } from '../platform/keys.js';
import {
  enqueueEnded,
  enqueueFinalise,
  enqueueItems,
  itemStates,
  removeChildren,
  type ItemState,
} from './enqueue.js';
import { endingOf, restoreCancel, unixNow } from './flags.js';
import { lanesOf } from './lanes.js';
import type { BatchIndex } from './manifest.js';
import { withQueues, type BatchDeps, type Queues } from './queues.js';
import { recordedOrdinals, registerBatch } from './record.js';
import { syncRecord } from './sync.js';

export interface Restored {
  /** Requests without an outcome. */
  pending: number;
  /** Work items put on the queue now. */
  enqueued: number;
}

/**
 * Makes Redis say what S3 says about an unfinished batch: registration, flags, counts, and a job
 * for every work item without outcomes. A new batch, a submit that died half-way and a Redis that
 * was emptied all come through here. Run twice, or by several at once, it changes nothing more.
 */
export async function restoreBatch(
  deps: BatchDeps,
  manifest: BatchIndex,
  signal?: AbortSignal,
): Promise<Restored> {
  const { header } = manifest;
  const id = header.batch_id;
  await registerBatch(deps.redis, header);
  await restoreCancel(deps, id, signal);
  const { done, added } = await syncRecord(deps, manifest, signal);

  const lane = lanesOf(manifest);
  return withQueues(deps.redis, async (queues) => {
    const open = manifest.items.flatMap((requests, item) =>
      requests.every(({ ordinal }) => done.has(ordinal)) ? [] : [item],
    );
    const missing = await missingItems(deps, queues, manifest, open);
    const ending = await endingOf(deps.redis, header);
    if (ending === undefined) {
      await enqueueItems(queues, header, missing, lane, signal);
    } else {
      await enqueueEnded(queues, id, missing, signal);
      await removeChildren(queues, id, open, lane, signal);
    }
    await removeAnswered(queues, manifest, done, added, signal);
    await deps.redis.hsetnx(redisKeys.batch(id), 'enqueued_at', unixNow());
    if (open.length === 0) await enqueueFinalise(queues, id);
    return { pending: manifest.requests.length - done.size, enqueued: missing.length };
  });
}

/** Items without outcomes that nobody is going to run. */
async function missingItems(
  deps: BatchDeps,
  queues: Queues,
  manifest: BatchIndex,
  open: number[],
): Promise<number[]> {
  const id = manifest.header.batch_id;
  const lane = lanesOf(manifest);
  const states = await itemStates(deps.redis, id, open, lane);
  const inState = (state: ItemState) => open.filter((item) => states.get(item) === state);
  for (const item of inState('parent-failed')) {
    const parent = await queues.outcomes.getJob(jobIds.outcome(id, item));
    await parent?.retry('failed');
  }
  const candidates = inState('none');
  for (const item of inState('broken')) {
    // Removing the parent removes its child too; 0: a cohort holds the child after all.
    const removed = await queues.outcomes.remove(jobIds.outcome(id, item));
    if (removed === 1 && (await queues.lane(lane(item)).remove(jobIds.document(id, item))) === 1)
      candidates.push(item);
  }
  if (candidates.length === 0) return [];
  // A pair of jobs vanishes only after its outcomes are recorded, so an item without jobs that was
  // committed since the listing shows here.
  const recorded = await recordedOrdinals(deps.redis, id);
  return candidates.filter(
    (item) => !(manifest.items[item] ?? []).every(({ ordinal }) => recorded.has(ordinal)),
  );
}

/** Outcomes that Redis did not know mean that it went back in time: its waiting jobs for them are not needed. */
async function removeAnswered(
  queues: Queues,
  manifest: BatchIndex,
  done: Set<number>,
  added: number[],
  signal?: AbortSignal,
): Promise<void> {
  const touched = new Set(added.map((ordinal) => manifest.requests[ordinal]?.item ?? -1));
  const answered = [...touched].filter((item) =>
    (manifest.items[item] ?? []).every(({ ordinal }) => done.has(ordinal)),
  );
  await removeChildren(queues, manifest.header.batch_id, answered, lanesOf(manifest), signal);
}
