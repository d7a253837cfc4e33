import type { Redis } from 'ioredis';
import { QUEUE_PREFIX, QUEUES } from '../platform/keys.js';

/**
 * Work items whose answers wait for S3: parents that are ready, running or held back. Counted from
 * the queue itself, so that leaders see it grow when no aggregator lives.
 */
export async function countUncommitted(redis: Redis): Promise<number> {
  const queue = `${QUEUE_PREFIX}:${QUEUES.outcomes}`;
  const counts = await Promise.all([
    redis.llen(`${queue}:wait`),
    redis.llen(`${queue}:active`),
    redis.zcard(`${queue}:delayed`),
  ]);
  return counts.reduce((sum, count) => sum + count, 0);
}
