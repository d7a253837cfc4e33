import type { EventEmitter } from 'node:events';
import { FlowProducer, Queue, type QueueOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { FinaliseJob, ItemJob, ItemResult } from '../contracts/work-item.js';
import { QUEUE_PREFIX, QUEUES } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { queueTelemetry } from '../platform/tracing.js';

/** What every function of this folder works on. */
export interface BatchDeps {
  store: ObjectStore;
  redis: Redis;
}

export interface Queues {
  documents: Queue<ItemJob, ItemResult>;
  outcomes: Queue<ItemJob>;
  finalise: Queue<FinaliseJob>;
  flows: FlowProducer;
  /** What they are opened over. */
  redis: Redis;
}

/**
 * Options of every `Queue` of longhaul. Each completion's event carries the return value (up to
 * 256 KB), so the default stream of 10,000 events could take gigabytes. A `Queue` made without
 * these options would set the stream's length back.
 */
export function queueOptions(connection: Redis): QueueOptions {
  return { connection, prefix: QUEUE_PREFIX, streams: { events: { maxLen: 100 } }, ...queueTelemetry() };
}

/** Opens the queues over a client that stays the caller's, and closes them in any case. */
export async function withQueues<T>(redis: Redis, use: (queues: Queues) => Promise<T>): Promise<T> {
  const queues: Queues = {
    documents: new Queue(QUEUES.documents, queueOptions(redis)),
    outcomes: new Queue(QUEUES.outcomes, queueOptions(redis)),
    finalise: new Queue(QUEUES.finalise, queueOptions(redis)),
    flows: new FlowProducer({ connection: redis, prefix: QUEUE_PREFIX }),
    redis,
  };
  const all = [queues.documents, queues.outcomes, queues.finalise, queues.flows];
  // Failed calls reject by themselves; an `error` event without a listener would end the process.
  for (const queue of all as EventEmitter[]) queue.on('error', () => undefined);
  try {
    return await use(queues);
  } finally {
    await Promise.all(all.map((queue) => queue.close()));
  }
}
