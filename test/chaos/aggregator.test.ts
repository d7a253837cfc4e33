/** A batch from queue to `_SUCCESS` while cohort and aggregator are killed: every outcome once. */
import { spawn, type ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import { watch } from '../support/leaks.js';
import { endProcess, trackLeaks } from '../support/services.js';
import { Bench, documentOf, full, openServices, until, type Services } from './cohort-support.js';

trackLeaks();

function aggregator(services: Services): ChildProcess {
  const { redis, s3 } = services;
  const settings = {
    redisUrl: redis.url,
    profile: 'fast' as const,
    logLevel: 'silent' as const,
    ...s3.settings,
  };
  return watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), 'aggregator'], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...toEnvironment(settings) },
    }),
  );
}

it('every request has one outcome, and the batch ends, whatever was killed', async () => {
  const services = await openServices(60);
  const bench = new Bench(services);
  let child = aggregator(services);
  try {
    const cohort = bench.cohort(2);
    const items = Array.from({ length: 10 }, (_, seed) => ({
      document: documentOf(256, seed),
      questions: [[20, 31, 42]],
      maxTokens: 40,
    }));
    const id = await bench.submit(full(2), items);
    const ended = async () => {
      for await (const key of bench.store.list(objectKeys.success(id))) return key === objectKeys.success(id);
      return false;
    };
    for (let round = 0; round < 3; round++) {
      await sleep(1_500);
      if (await ended()) break;
      await endProcess(child, 'SIGKILL');
      child = aggregator(services);
      if (round === 1) cohort.kill(0);
    }
    await until('_SUCCESS', 90_000, ended);
    const { counts } = success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString()));
    expect(counts).toEqual({ total: 10, answered: 10, failed: 0, cancelled: 0, expired: 0 });
    const outcomes: string[] = [];
    for await (const key of bench.store.list(objectKeys.outcomes(id))) outcomes.push(key);
    expect(outcomes).toHaveLength(10);
    const lines = (await bench.store.get(objectKeys.output(id))).toString().trim().split('\n');
    const ids = lines.map((line) => (JSON.parse(line) as { custom_id: string }).custom_id);
    expect(ids).toEqual(items.map((_, ordinal) => `request ${ordinal}`));
  } finally {
    await endProcess(child);
    await bench.close();
    await services.close();
  }
});
