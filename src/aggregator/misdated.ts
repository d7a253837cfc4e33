import type { Queue } from 'bullmq';
import type { AggregatorContext } from './context.js';

/** Looked at in one pass, of each queue and end. */
const CHUNK = 256;
/** BullMQ's scores of delayed jobs: milliseconds in the upper bits, a counter below. */
const SCALE = 0x1000;

/**
 * Wakes delayed jobs whose time cannot be right: further ahead of Redis's clock than any pause, or so long past that
 * no worker's clock has reached it. A machine whose wall clock jumped wrote them, or fails to see them.
 */
export async function wakeMisdated(
  { redis, queues, config, logger }: AggregatorContext,
  redisSeconds: number,
): Promise<void> {
  const slack = config.timings.faultBackoffLast;
  const now = redisSeconds * 1000;
  for (const queue of [queues.documents, queues.outcomes, queues.finalise] as Queue[]) {
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
