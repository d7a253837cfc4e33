/** Redis emptied under a living cohort and aggregator, in the middle of a batch. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import { watch } from '../support/leaks.js';
import { endProcess, trackLeaks } from '../support/services.js';
import { Bench, documentOf, full, openServices, until } from './cohort-support.js';

trackLeaks();

it('the cohort forms anew, the batch is rebuilt from S3, and every request has one answer', async () => {
  const services = await openServices(60);
  const bench = new Bench(services);
  const settings = { redisUrl: services.redis.url, profile: 'fast' as const, ...services.s3.settings };
  const aggregator = watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), 'aggregator'], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...toEnvironment(settings) },
    }),
  );
  try {
    bench.cohort(2);
    const items = Array.from({ length: 8 }, (_, seed) => ({
      document: documentOf(256, seed),
      questions: [[20, 31, 42]],
      maxTokens: 60,
    }));
    const id = await bench.submit(full(2), items);
    const outcomes = async () => {
      const keys: string[] = [];
      for await (const key of bench.store.list(objectKeys.outcomes(id))) keys.push(key);
      return keys;
    };
    await until('some outcomes', 60_000, async () => (await outcomes()).length >= 2);
    // Some are in S3, one is being run, the others wait.
    await bench.redis.flushall();
    expect((await outcomes()).length).toBeLessThan(8);
    await until('_SUCCESS', 90_000, () => bench.store.exists(objectKeys.success(id)));
    const { counts } = success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString()));
    expect(counts).toEqual({ total: 8, answered: 8, failed: 0, cancelled: 0, expired: 0 });
    expect(await outcomes()).toHaveLength(8);
    const lines = (await bench.store.get(objectKeys.output(id))).toString().trim().split('\n');
    const ids = lines.map((line) => (JSON.parse(line) as { custom_id: string }).custom_id);
    expect(ids).toEqual(items.map((_, ordinal) => `request ${ordinal}`));
    // And it goes on serving.
    await bench.ready('c2');
  } finally {
    await endProcess(aggregator);
    await bench.close();
    await services.close();
  }
});
