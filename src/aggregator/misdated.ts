/** What a clock that jumped leaves in Redis, put right: delays that are too long, and keys that would not expire for hours. */
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { knownLanes } from '../batch/lanes.js';
import type { Queues } from '../batch/queues.js';
import type { AggregatorContext } from './context.js';

/** Looked at in one pass, of each queue and end. */
const CHUNK = 256;
/** BullMQ's scores of delayed jobs: milliseconds in the upper bits, a counter below. */
const SCALE = 0x1000;

/** KEYS[1] lives for at most ARGV[1] ms from now on. */
const SHORTEN = `
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) then return redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 0`;

/**
 * Of a key that is never given a longer life than `ms`: Redis's clock was put back since, and would let what a dead
 * process holds stand for as long. Its holder, where it lives, renews it.
 */
export async function shortenLife(redis: Redis, key: string, ms: number): Promise<void> {
  await redis.eval(SHORTEN, 1, key, ms);
}

/** Of documents in every lane, of outcomes, and of batches to finalise. */
export async function everyQueue(redis: Redis, { lane, outcomes, finalise }: Queues): Promise<Queue[]> {
  return [...(await knownLanes(redis)).map(lane), outcomes, finalise] as Queue[];
}

/** Locks of jobs, and the turn of looking for stalled ones, of which there is one for all workers of a queue. */
export async function shortenLocks(
  { redis, config }: AggregatorContext,
  queues: readonly Queue[],
): Promise<void> {
  const { lock, stalled } = config.timings;
  for (const queue of queues) {
    await shortenLife(redis, queue.toKey('stalled-check'), stalled);
    const active = await redis.lrange(queue.toKey('active'), 0, -1);
    for (const id of active) await shortenLife(redis, `${queue.toKey(id)}:lock`, lock);
  }
}

/**
 * Wakes delayed jobs whose time cannot be right: further ahead of Redis's clock than any pause, or so long past that
 * no worker's clock has reached it. A machine whose wall clock jumped wrote them, or fails to see them.
 */
export async function wakeMisdated(
  { redis, config, logger }: AggregatorContext,
  queues: readonly Queue[],
  redisSeconds: number,
): Promise<void> {
  const slack = config.timings.faultBackoffLast;
  const now = redisSeconds * 1000;
  for (const queue of queues) {
    const key = queue.toKey('delayed');
    const past = await redis.zrangebyscore(key, '-inf', (now - slack) * SCALE, 'LIMIT', 0, CHUNK);
    const far = await redis.zrangebyscore(key, (now + 2 * slack) * SCALE, '+inf', 'LIMIT', 0, CHUNK);
    for (const id of [...past, ...far]) {
      const job = await queue.getJob(id);
      if (job === undefined) continue;
      // A worker may have woken or ended it meanwhile.
      await job.promote().catch(async (error: unknown) => {
        if (await job.isDelayed()) throw error;
      });
      logger.info(
        { queue: queue.name, job: id },
        'woken: its delay was written by a wrong clock, or is over',
      );
    }
  }
}
