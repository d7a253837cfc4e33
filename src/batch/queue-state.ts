import type { Redis } from 'ioredis';
import { QUEUE_PREFIX, QUEUES } from '../platform/keys.js';
import { countUncommitted } from './uncommitted.js';

export interface QueueState {
  /** Work items that wait for a cohort. */
  waiting: number;
  /** Those that cohorts hold. */
  active: number;
  /** Those given back, waiting out their back-off. */
  delayed: number;
  /** Answers that S3 does not have yet. */
  uncommitted: number;
  /** Unix milliseconds at which the one that has waited longest was queued; null: none waits. */
  oldest_queued_at: number | null;
}

const documents = `${QUEUE_PREFIX}:${QUEUES.documents}`;

/** BullMQ's score of a waiting job is its priority times this, plus a counter. */
const PER_PRIORITY = 0x100000000;
/** Priorities looked at; batches have 201 to choose from. */
const MAX_PRIORITIES = 201;

/** Depth and age of the queue of documents. */
export async function readQueue(redis: Redis): Promise<QueueState> {
  const [wait, prioritized, active, delayed, uncommitted, oldest] = await Promise.all([
    redis.llen(`${documents}:wait`),
    redis.zcard(`${documents}:prioritized`),
    redis.llen(`${documents}:active`),
    redis.zcard(`${documents}:delayed`),
    countUncommitted(redis),
    oldestQueued(redis),
  ]);
  return { waiting: wait + prioritized, active, delayed, uncommitted, oldest_queued_at: oldest };
}

/** Within a priority the first is the oldest, so one job of each priority is looked at. */
async function oldestQueued(redis: Redis): Promise<number | null> {
  const heads: string[] = await redis.lrange(`${documents}:wait`, -1, -1);
  let from = '-inf';
  for (let looked = 0; looked < MAX_PRIORITIES; looked++) {
    const [id, score] = await redis.zrangebyscore(
      `${documents}:prioritized`,
      from,
      '+inf',
      'WITHSCORES',
      'LIMIT',
      0,
      1,
    );
    if (id === undefined) break;
    heads.push(id);
    from = String((Math.floor(Number(score) / PER_PRIORITY) + 1) * PER_PRIORITY);
  }
  const times = await Promise.all(heads.map((id) => redis.hget(`${documents}:${id}`, 'timestamp')));
  const known = times.flatMap((time) => (time === null ? [] : Number(time)));
  return known.length === 0 ? null : Math.min(...known);
}
