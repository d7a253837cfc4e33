import type { FlowJob, JobsOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { ManifestHeader } from '../contracts/manifest.js';
import { InfrastructureError } from '../platform/errors.js';
import { documentsQueue, jobIds, QUEUE_PREFIX, QUEUES } from '../platform/keys.js';
import { reach } from '../platform/test-points.js';
import { jobTelemetry, traced } from '../platform/tracing.js';
import { chunks } from './concurrency.js';
import { byLane, type LaneOfItem } from './lanes.js';
import type { Queues } from './queues.js';
import { takeTurns } from './turns.js';

/** Flows per MULTI: 500 scripts of about 0.1 ms keep Redis from answering others for some 50 ms. */
const CHUNK = 250;

/**
 * Jobs carry references only. `attempts: 1`: BullMQ itself never retries, give-backs and counters
 * of our own decide. Jobs stay until the aggregator has committed their outcomes and removes the
 * pair: so adding an item again does nothing while it is under way, and Redis holds only answers
 * that S3 does not have yet.
 */
const common: JobsOptions = { attempts: 1, sizeLimit: 4096, removeOnFail: false };
const childOptions: JobsOptions = { ...common, removeOnComplete: false, continueParentOnFailure: true };
const parentOptions: JobsOptions = { ...common, removeOnComplete: true };

/** What a work item's jobs take from its batch. */
export type EnqueuedBatch = Pick<ManifestHeader, 'batch_id' | 'priority' | 'tenant'>;

/** BullMQ runs 1 first, and jobs of priority 0 before all others: so every job gets one, and ours never is 0. */
const bullPriority = (priority = 0): number => 101 - priority;

function flow(
  { batch_id: batchId, priority }: EnqueuedBatch,
  item: number,
  lane: string | undefined,
  carried: ReturnType<typeof jobTelemetry>,
): FlowJob {
  const data = { batch_id: batchId, item };
  return {
    name: 'commit',
    queueName: QUEUES.outcomes,
    data,
    opts: { ...parentOptions, ...carried, jobId: jobIds.outcome(batchId, item) },
    children: [
      {
        name: 'answer',
        queueName: documentsQueue(lane),
        data,
        opts: {
          ...childOptions,
          ...carried,
          priority: bullPriority(priority),
          jobId: jobIds.document(batchId, item),
        },
      },
    ],
  };
}

/** One flow per work item, in the queue of its lane. Call it only for items of which `itemStates` found no job. */
export async function enqueueItems(
  queues: Queues,
  batch: EnqueuedBatch,
  items: readonly number[],
  laneOfItem: LaneOfItem,
  signal?: AbortSignal,
): Promise<void> {
  const { batch_id, tenant } = batch;
  const priority = bullPriority(batch.priority);
  for (const [lane, own] of byLane(items, laneOfItem)) {
    let after = 0;
    for (const chunk of chunks(own, CHUNK)) {
      signal?.throwIfAborted();
      const told = { 'longhaul.batch.id': batch_id, 'messaging.batch.message_count': chunk.length };
      await traced('enqueue', 'producer', told, async () => {
        // One step for all of them: BullMQ itself would tell two for each item.
        const carried = jobTelemetry();
        await queues.flows.addBulk(chunk.map((item) => flow(batch, item, lane, carried)));
      });
      const jobs = chunk.map((item) => jobIds.document(batch_id, item));
      after = await takeTurns(queues.redis, documentsQueue(lane), jobs, { priority, tenant, after });
      reach('enqueued');
    }
  }
}

/** Only the parents: they run with no child's value, and the batch's flag says how the items ended. */
export async function enqueueEnded(
  queues: Queues,
  batchId: string,
  items: readonly number[],
  signal?: AbortSignal,
): Promise<void> {
  for (const chunk of chunks(items, CHUNK)) {
    signal?.throwIfAborted();
    await queues.outcomes.addBulk(
      chunk.map((item) => ({
        name: 'commit',
        data: { batch_id: batchId, item },
        opts: { ...parentOptions, jobId: jobIds.outcome(batchId, item) },
      })),
    );
  }
}

/** Asks for the batch's files; one job per batch, however many ask. */
export async function enqueueFinalise(queues: Queues, batchId: string): Promise<void> {
  await queues.finalise.add(
    'finalise',
    { batch_id: batchId },
    { ...common, removeOnComplete: true, removeOnFail: true, jobId: jobIds.finalise(batchId) },
  );
}

/** Removes children that no cohort holds, which runs their parents. Returns how many a cohort holds. */
export async function removeChildren(
  queues: Queues,
  batchId: string,
  items: readonly number[],
  laneOfItem: LaneOfItem,
  signal?: AbortSignal,
): Promise<number> {
  let held = 0;
  for (const chunk of chunks(items, CHUNK)) {
    signal?.throwIfAborted();
    const removed = await Promise.all(
      chunk.map((item) => queues.lane(laneOfItem(item)).remove(jobIds.document(batchId, item))),
    );
    held += removed.filter((result) => result === 0).length;
  }
  return held;
}

/**
 * Where a work item's two jobs are.
 * `none`: neither exists. `alive`: it will come to an end by itself. `parent-failed`: the commit
 * gave up (a defect). `broken`: nothing would ever run it again, both must be removed and added anew
 * (someone removed one of the two, or a flow was added again after its child had failed, which
 * BullMQ takes as a new dependency that never resolves).
 */
export type ItemState = 'none' | 'alive' | 'parent-failed' | 'broken';
const states: ItemState[] = ['none', 'alive', 'parent-failed', 'broken'];

/** KEYS documents:failed, documents:completed, outcomes:waiting-children, outcomes:failed; ARGV two key prefixes, then child and parent ids. */
const STATES = `
local found = {}
for i = 3, #ARGV, 2 do
  local child, parent = ARGV[i], ARGV[i + 1]
  local childThere = redis.call('EXISTS', ARGV[1] .. child) == 1
  local parentThere = redis.call('EXISTS', ARGV[2] .. parent) == 1
  local childEnded = childThere
    and (redis.call('ZSCORE', KEYS[1], child) or redis.call('ZSCORE', KEYS[2], child))
  local state = 1
  if not childThere and not parentThere then
    state = 0
  elseif not parentThere then
    state = 3
  elseif redis.call('ZSCORE', KEYS[4], parent) then
    state = 2
  elseif redis.call('ZSCORE', KEYS[3], parent) and (childEnded or not childThere) then
    state = 3
  end
  found[#found + 1] = state
end
return found`;

export async function itemStates(
  redis: Redis,
  batchId: string,
  items: readonly number[],
  laneOfItem: LaneOfItem,
): Promise<Map<number, ItemState>> {
  const outcomes = `${QUEUE_PREFIX}:${QUEUES.outcomes}:`;
  const found = new Map<number, ItemState>();
  for (const [lane, own] of byLane(items, laneOfItem)) {
    const documents = `${QUEUE_PREFIX}:${documentsQueue(lane)}:`;
    const sets = [
      `${documents}failed`,
      `${documents}completed`,
      `${outcomes}waiting-children`,
      `${outcomes}failed`,
    ];
    for (const chunk of chunks(own, CHUNK)) {
      const ids = chunk.flatMap((item) => [jobIds.document(batchId, item), jobIds.outcome(batchId, item)]);
      const codes = (await redis.eval(STATES, 4, ...sets, documents, outcomes, ...ids)) as number[];
      if (codes.length !== chunk.length) {
        throw new InfrastructureError('REDIS', `Redis answered for ${codes.length} of ${chunk.length} items`);
      }
      chunk.forEach((item, i) => found.set(item, states[codes[i] ?? 3] ?? 'broken'));
    }
  }
  return found;
}
