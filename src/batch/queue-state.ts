import type { Redis } from 'ioredis';
import { documentsQueue, QUEUE_PREFIX } from '../platform/keys.js';
import { knownLanes } from './lanes.js';
import { PER_PRIORITY } from './turns.js';
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

/** Priorities looked at; batches have 201 to choose from. */
const MAX_PRIORITIES = 201;
/** Jobs looked at in each. */
const MAX_BATCHES = 20;

/** Depth and age of the queue of documents, over all lanes. */
export async function readQueue(redis: Redis): Promise<QueueState> {
  const queues = (await knownLanes(redis)).map((lane) => `${QUEUE_PREFIX}:${documentsQueue(lane)}`);
  const [lanes, uncommitted] = await Promise.all([
    Promise.all(queues.map((queue) => readLane(redis, queue))),
    countUncommitted(redis),
  ]);
  const sum = (count: 'waiting' | 'active' | 'delayed') => lanes.reduce((all, lane) => all + lane[count], 0);
  const ages = lanes.flatMap(({ oldest }) => oldest ?? []);
  return {
    waiting: sum('waiting'),
    active: sum('active'),
    delayed: sum('delayed'),
    uncommitted,
    oldest_queued_at: ages.length === 0 ? null : Math.min(...ages),
  };
}

async function readLane(redis: Redis, documents: string) {
  const [wait, prioritized, active, delayed, oldest] = await Promise.all([
    redis.llen(`${documents}:wait`),
    redis.zcard(`${documents}:prioritized`),
    redis.llen(`${documents}:active`),
    redis.zcard(`${documents}:delayed`),
    oldestQueued(redis, documents),
  ]);
  return { waiting: wait + prioritized, active, delayed, oldest };
}

/** Within a priority batches take turns, so the oldest is among the first of them: as many batches as are looked at. */
async function oldestQueued(redis: Redis, documents: string): Promise<number | null> {
  const heads: string[] = await redis.lrange(`${documents}:wait`, -1, -1);
  let from = '-inf';
  for (let looked = 0; looked < MAX_PRIORITIES; looked++) {
    const found = await redis.zrangebyscore(
      `${documents}:prioritized`,
      from,
      '+inf',
      'WITHSCORES',
      'LIMIT',
      0,
      MAX_BATCHES,
    );
    const score = found[1];
    if (score === undefined) break;
    const next = (Math.floor(Number(score) / PER_PRIORITY) + 1) * PER_PRIORITY;
    for (let i = 0; i < found.length; i += 2) if (Number(found[i + 1]) < next) heads.push(found[i] ?? '');
    from = String(next);
  }
  const times = await Promise.all(heads.map((id) => redis.hget(`${documents}:${id}`, 'timestamp')));
  const known = times.flatMap((time) => (time === null ? [] : Number(time)));
  return known.length === 0 ? null : Math.min(...known);
}
