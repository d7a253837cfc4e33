/** Redis's own clock jumps by hours under living cohorts and an aggregator: all its locks and expiries are reckoned by it. */
import { rmSync } from 'node:fs';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { objectKeys } from '../../src/platform/keys.js';
import { startCommand } from '../support/command.js';
import { startRedis, startS3, tempDir, trackLeaks } from '../support/services.js';
import { makeWallClock } from '../support/wall-clock.js';
import { Bench, documentOf, full, until } from './cohort-support.js';
import { writeRandomModel } from './random-model.js';

trackLeaks();

const HOUR = 3_600_000;

it('locks that end too early or not for hours cost time alone, and batches expire by the clock that jumped', async () => {
  const folder = await tempDir('longhaul-redis-clock-');
  const modelDir = writeRandomModel(await tempDir('longhaul-cohort-'), 40);
  const clock = await makeWallClock(folder);
  const [redis, s3] = await Promise.all([startRedis({ environment: clock.environment }), startS3()]);
  const bench = new Bench({ redis, s3, modelDir });
  const aggregator = startCommand(['aggregator'], { redisUrl: redis.url, ...s3.settings });
  const redisHours = async () => (Number((await bench.redis.time())[0]) * 1000 - Date.now()) / HOUR;
  const outcomes = async (id: string) => {
    let count = 0;
    for await (const _ of bench.store.list(objectKeys.outcomes(id))) count++;
    return count;
  };
  const counts = async (id: string) => {
    await until(`_SUCCESS of ${id}`, 60_000, () => bench.store.exists(objectKeys.success(id))).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}\n${cohort.log()}\n${aggregator.log.join('')}`);
      },
    );
    return success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString())).counts;
  };
  const cohort = bench.cohort(2);
  try {
    await bench.ready('c2');
    const items = Array.from({ length: 6 }, (_, seed) => ({
      document: documentOf(64, seed),
      questions: [[20, 31, 42, 53]],
      maxTokens: 120,
    }));
    const inHours = (hours: number) => Math.floor((Date.now() + hours * HOUR) / 1000);
    const id = await bench.submit(full(2), items, { expiresAt: inHours(24) });
    await bench.reached(id, 'decode');
    // Every lock and heartbeat ends at once.
    clock.shift(5 * HOUR);
    expect(await redisHours()).toBeCloseTo(5, 1);
    await until('answers by a clock that is ahead', 40_000, async () => (await outcomes(id)) >= 2);
    // A leader dies, and what it held would stand for ten hours.
    await until('an item in hand', 20_000, async () => (await bench.documents.getActiveCount()) === 1);
    cohort.kill(0);
    clock.shift(-5 * HOUR);
    expect(await redisHours()).toBeCloseTo(-5, 1);
    expect(await counts(id)).toEqual({ total: 6, answered: 6, failed: 0, cancelled: 0, expired: 0 });
    expect(await outcomes(id)).toBe(6);

    // An hour by Redis's clock is over when it says so: each request ends once, with its answer or expired.
    clock.shift(0);
    const late = await bench.submit(full(2), items, { expiresAt: inHours(1) });
    await until('an answer within the hour', 40_000, async () => (await outcomes(late)) >= 1);
    clock.shift(5 * HOUR);
    const { answered, expired, ...others } = await counts(late);
    expect(others).toEqual({ total: 6, failed: 0, cancelled: 0 });
    expect(answered + expired).toBe(6);
    expect(answered).toBeGreaterThan(0);
    expect(expired).toBeGreaterThan(0);
    expect(await outcomes(late)).toBe(6);
  } finally {
    await aggregator.stop();
    await bench.close();
    await Promise.all([redis.stop(), s3.stop()]);
    rmSync(modelDir, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  }
});
