/** In which order documents of several batches are taken by one BullMQ worker, as a cohort's leader is one. */
import { Worker } from 'bullmq';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Redis } from 'ioredis';
import { enqueueItems, type EnqueuedBatch } from '../../src/batch/enqueue.js';
import { readQueue } from '../../src/batch/queue-state.js';
import { withQueues } from '../../src/batch/queues.js';
import type { ItemJob } from '../../src/contracts/work-item.js';
import { QUEUE_PREFIX, QUEUES } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { startRedis, trackLeaks, type RedisService } from '../support/services.js';

let service: RedisService;
let redis: Redis;

beforeAll(async () => {
  service = await startRedis();
  redis = createRedis(service.url, 'command');
});
afterAll(async () => {
  redis.disconnect();
  await service.stop();
});
beforeEach(async () => {
  await redis.flushall();
});
trackLeaks();

async function enqueue(
  batch_id: string,
  items: number,
  more: Partial<EnqueuedBatch> = {},
  from = 0,
): Promise<void> {
  const numbers = Array.from({ length: items }, (_, item) => from + item);
  await withQueues(redis, (queues) => enqueueItems(queues, { batch_id, ...more }, numbers, () => undefined));
}

/** The next `count` documents, as `<batch><item>`; `give`: those that are given back once, at once. */
async function take(count: number, give: readonly string[] = []): Promise<string[]> {
  const connection = createRedis(service.url, 'bullmq');
  const taken: string[] = [];
  const back = new Set(give);
  const worker = new Worker<ItemJob>(QUEUES.documents, null, {
    connection,
    prefix: QUEUE_PREFIX,
    autorun: false,
  });
  try {
    while (taken.length < count) {
      const job = await worker.getNextJob('token', { block: false });
      if (job === undefined) throw new Error(`only ${taken.join(' ')}`);
      const name = `${job.data.batch_id}${job.data.item}`;
      if (back.delete(name)) {
        await job.moveToWait('token');
        continue;
      }
      taken.push(name);
      await job.moveToCompleted({}, 'token', false);
    }
    return taken;
  } finally {
    await worker.close();
    connection.disconnect();
  }
}

test('a batch that comes shares the turns of one that is much longer', async () => {
  await enqueue('a', 600);
  expect(await take(2)).toEqual(['a0', 'a1']);
  await enqueue('b', 3);
  expect(await take(7)).toEqual(['a2', 'a3', 'b0', 'a4', 'b1', 'a5', 'b2']);
  // Who comes later begins no earlier than those who are there.
  await enqueue('c', 2);
  expect(await take(5)).toEqual(['a6', 'a7', 'c0', 'a8', 'c1']);
  await enqueue('d', 1);
  await enqueue('e', 1);
  expect((await take(4)).sort()).toEqual(['a10', 'a9', 'd0', 'e0']);
});

test('a stream of short batches does not hold up a long one', async () => {
  await enqueue('x', 20);
  const taken: string[] = [];
  for (let short = 0; short < 10; short++) {
    await enqueue(`a${short}-`, 1);
    taken.push(...(await take(2)));
  }
  const long = taken.filter((name) => name.startsWith('x'));
  expect(long.length).toBeGreaterThanOrEqual(10);
});

test('batches of one tenant have one turn together, one after the other', async () => {
  await enqueue('a', 3, { tenant: 'us' });
  await enqueue('b', 2, { tenant: 'us' });
  await enqueue('c', 4, { tenant: 'them' });
  expect(await take(9)).toEqual(['a0', 'a1', 'c0', 'a2', 'c1', 'b0', 'c2', 'b1', 'c3']);
  // What they had while nobody else was there is not held against them.
  await enqueue('d', 2, { tenant: 'us' });
  await enqueue('e', 2, { tenant: 'others' });
  expect(await take(4)).toEqual(['d0', 'd1', 'e0', 'e1']);
});

test('a higher priority comes first, whatever the turns, and what is given back keeps its place', async () => {
  await enqueue('a', 4);
  await enqueue('b', 2, { priority: -1 });
  await enqueue('c', 1, { priority: 7 });
  expect(await take(3, ['a1'])).toEqual(['c0', 'a0', 'a1']);
  await enqueue('d', 2);
  expect(await take(6)).toEqual(['a2', 'a3', 'd0', 'd1', 'b0', 'b1']);
});

test('the age of the queue is that of its oldest document, whoever is next', async () => {
  await enqueue('z', 2);
  const { oldest_queued_at } = await readQueue(redis);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await enqueue('a', 2);
  expect((await take(1))[0]).toBe('z0');
  await enqueue('b', 1);
  const { oldest_queued_at: later, waiting } = await readQueue(redis);
  expect(waiting).toBe(4);
  expect(later! - oldest_queued_at!).toBeLessThan(20);
});
