import type { EventEmitter } from 'node:events';
import { FlowProducer, Queue, type QueueOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { FinaliseJob, ItemJob, ItemResult } from '../contracts/work-item.js';
import { documentsQueue, QUEUE_PREFIX, QUEUES } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { queueTelemetry } from '../platform/tracing.js';

/** What every function of this folder works on. */
export interface BatchDeps {
  store: ObjectStore;
  redis: Redis;
}

export interface Queues {
  /** Documents in no lane. */
  documents: Queue<ItemJob, ItemResult>;
  /** Documents in this lane; undefined: `documents`. */
  lane: (name: string | undefined) => Queue<ItemJob, ItemResult>;
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
  const open = <Data, Result = unknown>(name: string) =>
    quiet(new Queue<Data, Result>(name, queueOptions(redis)));
  const lanes = new Map<string | undefined, Queue<ItemJob, ItemResult>>();
  const lane = (name: string | undefined) => {
    const queue = lanes.get(name) ?? open<ItemJob, ItemResult>(documentsQueue(name));
    lanes.set(name, queue);
    return queue;
  };
  const queues: Queues = {
    documents: lane(undefined),
    lane,
    outcomes: open<ItemJob>(QUEUES.outcomes),
    finalise: open<FinaliseJob>(QUEUES.finalise),
    flows: quiet(new FlowProducer({ connection: redis, prefix: QUEUE_PREFIX })),
    redis,
  };
  try {
    return await use(queues);
  } finally {
    const { outcomes, finalise, flows } = queues;
    await Promise.all([...lanes.values(), outcomes, finalise, flows].map((queue) => queue.close()));
  }
}

/** Failed calls reject by themselves; an `error` event without a listener would end the process. */
function quiet<T extends EventEmitter>(queue: T): T {
  queue.on('error', () => undefined);
  return queue;
}
