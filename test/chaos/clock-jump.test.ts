/** The wall clocks of all ranks and of the aggregator jump by hours, in the middle of a batch. */
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { success } from '../../src/contracts/outcome.js';
import { toEnvironment } from '../../src/platform/config.js';
import { objectKeys, redisKeys } from '../../src/platform/keys.js';
import { watch } from '../support/leaks.js';
import { endProcess, tempDir, trackLeaks } from '../support/services.js';
import { Bench, documentOf, full, openServices, until } from './cohort-support.js';

trackLeaks();

const HOUR = 3_600_000;
/** Loaded before everything else of a process: its `Date` is off by the milliseconds that a file names. */
const PRELOAD = `
const { readFileSync } = require('node:fs');
const Real = Date;
let shift = 0;
const read = () => { shift = Number(readFileSync(process.env.CLOCK_SHIFT, 'utf8')); };
read();
setInterval(read, 20).unref();
globalThis.Date = class extends Real {
  constructor(...given) { if (given.length === 0) super(Real.now() + shift); else super(...given); }
  static now() { return Real.now() + shift; }
};`;

it('nothing expires, no cohort is lost, and an item delayed by a wrong clock comes back', async () => {
  const folder = await tempDir('longhaul-clock-');
  const services = await openServices(40);
  const bench = new Bench(services);
  const shift = (ms: number) => {
    writeFileSync(join(folder, 'shift'), String(ms));
  };
  shift(0);
  writeFileSync(join(folder, 'preload.cjs'), PRELOAD);
  bench.environment = {
    NODE_OPTIONS: `--require ${join(folder, 'preload.cjs')}`,
    CLOCK_SHIFT: join(folder, 'shift'),
  };
  const settings = { redisUrl: services.redis.url, profile: 'fast' as const, ...services.s3.settings };
  const aggregator = watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), 'aggregator'], {
      stdio: 'ignore',
      env: {
        PATH: process.env['PATH'],
        HOME: process.env['HOME'],
        ...toEnvironment(settings),
        ...bench.environment,
      },
    }),
  );
  try {
    const cohort = bench.cohort(2);
    await bench.ready('c2');
    const items = [1, 2, 3].map((seed) => ({
      document: documentOf(64, seed),
      questions: [[20, 31, 42, 53]],
      maxTokens: 120,
    }));
    const id = await bench.submit(full(2), items, { expiresAt: Math.floor(Date.now() / 1000) + 3600 });
    await bench.reached(id, 'decode');
    shift(5 * HOUR);
    const done = async () => {
      let outcomes = 0;
      for await (const _ of bench.store.list(objectKeys.outcomes(id))) outcomes++;
      return outcomes;
    };
    await until('an answer by clocks that are ahead', 30_000, async () => (await done()) >= 1);
    // The next items go back, until a time that is hours away by any right clock.
    await services.s3.faults.add({
      operation: 'GetObject',
      key: '/items/',
      times: 100_000,
      action: { kind: 'error' },
    });
    await until('an item delayed', 30_000, async () => {
      const faults = await bench.redis.hget(redisKeys.item(id, 2), 'infrastructure_faults');
      return Number(faults) >= 1 && (await (await bench.job(id, 2)).isDelayed());
    });
    shift(-5 * HOUR);
    await services.s3.faults.clear();
    await until('_SUCCESS', 60_000, () => bench.store.exists(objectKeys.success(id))).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}\n${cohort.log()}`);
      },
    );
    const { counts } = success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString()));
    expect(counts).toEqual({ total: 3, answered: 3, failed: 0, cancelled: 0, expired: 0 });
    expect(await done()).toBe(3);
    expect(cohort.starts).toBe(1);
  } finally {
    await endProcess(aggregator);
    await bench.close();
    await services.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
