import { Queue } from 'bullmq';
import { expect, test } from 'vitest';
import { readActivity, recordActivity } from '../../src/batch/activity.js';
import { readQueue } from '../../src/batch/queue-state.js';
import { queueOptions } from '../../src/batch/queues.js';
import { QUEUES } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { startRedis, trackLeaks } from '../support/services.js';

trackLeaks();

test('activity is told by stretches of time, and the queue’s oldest job whatever its priority', async () => {
  const service = await startRedis();
  const redis = createRedis(service.url, 'command');
  const queue = new Queue(QUEUES.documents, queueOptions(redis));
  try {
    const at = Date.UTC(2026, 0, 1, 12, 0, 5);
    const usage = { document_tokens: 1000, query_tokens: 3, answer_tokens: 8 };
    const answered = { status: 'answered' as const, error: null, usage };
    const execution = { prefill_seconds: 1.5, decode_seconds: 0.5 };
    for (let i = 0; i < 20; i++) {
      const queuedAt = at - (i === 0 ? 60_000 : 4_000);
      await recordActivity(redis, { outcomes: [answered, answered], execution, queuedAt }, at);
    }
    const failed = { status: 'failed' as const, error: { code: 'POISON', message: '' }, usage: null };
    await recordActivity(redis, { outcomes: [failed], execution: null, queuedAt: at }, at - 60_000);

    const { seconds, points, causes } = await readActivity(redis, 15, 90, at);
    expect([seconds, points.length]).toEqual([10, 90]);
    const last = points.at(-1);
    expect(last).toMatchObject({ documents: 20, answered: 40, document_tokens: 20_000, answer_tokens: 320 });
    expect(last?.latency_p50).toBeCloseTo(4, 0);
    expect(last?.run_p50).toBeGreaterThan(1.8);
    expect(last?.run_p50).toBeLessThan(2.2);
    expect(points.at(-7)?.failed).toBe(1);
    expect(causes).toEqual([{ code: 'POISON', count: 1 }]);
    const day = await readActivity(redis, 1440, 96, at);
    expect(day.points.reduce((sum, { documents }) => sum + documents, 0)).toBe(20);

    expect(await readQueue(redis)).toMatchObject({ waiting: 0, oldest_queued_at: null });
    await queue.add('answer', { batch_id: 'b', item: 0 }, { priority: 101, timestamp: 5_000 });
    await queue.add('answer', { batch_id: 'b', item: 0 }, { priority: 1, timestamp: 9_000 });
    await queue.add('answer', { batch_id: 'b', item: 0 }, { priority: 1, timestamp: 10_000 });
    expect(await readQueue(redis)).toMatchObject({ waiting: 3, active: 0, oldest_queued_at: 5_000 });
  } finally {
    await queue.close();
    redis.disconnect();
    await service.stop();
  }
});
