/** A failover by Sentinel that loses writes which Redis had acknowledged, in the middle of a batch. */
import { rmSync } from 'node:fs';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { objectKeys } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { startCommand } from '../support/command.js';
import { startSentinels } from '../support/sentinels.js';
import { startS3, tempDir, trackLeaks } from '../support/services.js';
import { Bench, documentOf, full, until } from './cohort-support.js';
import { writeRandomModel } from './random-model.js';

trackLeaks();

it('all go over to the new master; what it does not know comes back from S3, and every request has one outcome', async () => {
  const sentinels = await startSentinels();
  const s3 = await startS3();
  const modelDir = writeRandomModel(await tempDir('longhaul-sentinel-'), 60);
  const redis = { ...sentinels.master, url: sentinels.url };
  const bench = new Bench({ redis, s3, modelDir });
  const aggregator = startCommand(['aggregator'], { redisUrl: sentinels.url, ...s3.settings });
  // What it holds, asked without the sentinels.
  const replica = createRedis(sentinels.replica.url, 'command');
  try {
    const cohort = bench.cohort(2);
    const ready = await bench.ready('c2');
    const items = Array.from({ length: 8 }, (_, seed) => ({
      document: documentOf(256, seed),
      questions: [[20, 31, 42]],
      maxTokens: 60,
    }));
    const first = await bench.submit(full(2), items);
    const outcomes = async (id: string) => {
      let count = 0;
      for await (const _ of bench.store.list(objectKeys.outcomes(id))) count++;
      return count;
    };
    await until('some outcomes', 60_000, async () => (await outcomes(first)) >= 2);
    sentinels.cutReplication();
    // Acknowledged, and lost: a whole batch, and answers of the first one.
    const second = await bench.submit(full(2), items.slice(0, 3));
    const before = await outcomes(first);
    await until(
      'an outcome that the replica does not hear of',
      30_000,
      async () => (await outcomes(first)) > before,
    );
    const known = await replica.keys(`*${second}*`);
    expect(known).toEqual([]);
    expect((await outcomes(first)) + (await outcomes(second))).toBeLessThan(11);
    await sentinels.master.kill('SIGKILL');
    for (const [id, total] of [
      [first, 8],
      [second, 3],
    ] as const) {
      await until(`_SUCCESS of ${id}`, 90_000, () => bench.store.exists(objectKeys.success(id))).catch(
        (error: unknown) => {
          throw new Error(`${String(error)}\n${cohort.log()}\n${aggregator.log.join('')}`);
        },
      );
      const { counts } = success.parse(
        JSON.parse((await bench.store.get(objectKeys.success(id))).toString()),
      );
      expect(counts).toEqual({ total, answered: total, failed: 0, cancelled: 0, expired: 0 });
      expect(await outcomes(id)).toBe(total);
    }
    expect((await replica.info('replication')).includes('role:master')).toBe(true);
    // The new master serves, and no generation came twice.
    const again = await bench.ready('c2');
    expect(cohort.starts === 1 || again['generation'] !== ready['generation']).toBe(true);
  } finally {
    replica.disconnect();
    await aggregator.stop();
    await bench.close();
    await Promise.all([sentinels.stop(), s3.stop()]);
    rmSync(modelDir, { recursive: true, force: true });
  }
});
