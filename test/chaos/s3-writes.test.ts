/** S3 takes no outcome for a long time: the cohort goes on up to the bound, and all is committed when it heals. */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import { watch } from '../support/leaks.js';
import { endProcess } from '../support/services.js';
import { documentOf, full, until, useBench } from './cohort-support.js';

const file = useBench(4);
const BOUND = 3;
const ITEMS = 12;
/** Longer than the lock, the stalled check and the longest back-off of the profile; `make outage` has ten minutes. */
const OUTAGE_MS = process.env['OUTAGE_MINUTES'] ? Number(process.env['OUTAGE_MINUTES']) * 60_000 : 6_000;

const what =
  'answers wait in Redis up to the bound, no outcome is there before S3 heals, and then every one is';
it(what, { timeout: OUTAGE_MS + 180_000 }, async () => {
  const { bench, services } = file;
  const settings = { redisUrl: services.redis.url, profile: 'fast' as const, ...services.s3.settings };
  const rule = await services.s3.faults.add({
    operation: 'PutObject',
    key: '/outcomes/',
    times: 100_000,
    action: { kind: 'error' },
  });
  const aggregator = watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), 'aggregator'], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...toEnvironment(settings) },
    }),
  );
  try {
    const cohort = bench.cohort(1, 'bounded', { uncommittedBound: BOUND });
    const items = Array.from({ length: ITEMS }, (_, seed) => ({
      document: documentOf(32, seed),
      questions: [[20, 31, 42]],
    }));
    const id = await bench.submit(full(1), items);
    const answered = () => bench.documents.getCompletedCount();
    const outcomes = async () => {
      let count = 0;
      for await (const _ of bench.store.list(objectKeys.outcomes(id))) count++;
      return count;
    };
    await until('answers above the bound', 60_000, async () => (await answered()) > BOUND);
    await sleep(OUTAGE_MS);
    // One above the bound closes the gate.
    expect(await answered()).toBe(BOUND + 1);
    expect(await outcomes()).toBe(0);
    expect(await services.s3.faults.hits(rule)).toBeGreaterThan(BOUND);
    await services.s3.faults.clear();
    await until('_SUCCESS', 90_000, () => bench.store.exists(objectKeys.success(id)));
    const { counts } = success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString()));
    expect(counts).toEqual({ total: ITEMS, answered: ITEMS, failed: 0, cancelled: 0, expired: 0 });
    expect(await outcomes()).toBe(ITEMS);
    expect(cohort.starts).toBe(1);
  } finally {
    await endProcess(aggregator);
  }
});
