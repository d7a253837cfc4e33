/** What happens around a healthy cohort: its leader is stopped, Redis or S3 goes away, answers pile up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { readGauges } from '../../src/aggregator/gauges.js';
import { withQueues } from '../../src/batch/queues.js';
import { itemFailure } from '../../src/contracts/work-item.js';
import { redisKeys } from '../../src/platform/keys.js';
import { registry } from '../../src/platform/metrics.js';
import { checkRedis } from '../../src/platform/redis.js';
import {
  Bench,
  documentOf,
  full,
  openServices,
  texts,
  until,
  useBench,
  type Services,
} from './cohort-support.js';

const file = useBench(160);
let services: Services;
let bench: Bench;
beforeEach(() => {
  ({ bench, services } = file);
});

const questions = [[20, 31, 42, 53]];
const short = { document: documentOf(64), questions };
const slow = { document: documentOf(64, 9), questions, maxTokens: 400 };

describe('a stopped process', () => {
  it('a leader stopped past its lease finds out when it goes on; the other cohort’s answer stands', async () => {
    const first = bench.cohort(1, 'first');
    await bench.ready('first');
    const id = await bench.submit(full(1), [slow]);
    await bench.reached(id, 'decode');
    first.kill(0, 'SIGSTOP');
    bench.cohort(1, 'second');
    const result = await bench.answered(id);
    expect(result.execution).toMatchObject({ cohort: 'second', epoch: 2 });
    first.kill(0, 'SIGCONT');
    await until('the first cohort formed anew', 20_000, () => Promise.resolve(first.starts === 2));
    expect(first.exits[0]).toMatchObject({ code: 75 });
    const job = await bench.job(id);
    expect(job.returnvalue).toEqual(result);
    // Readers drop what an older epoch says; the newer one must not have been written over for good.
    expect(job.attemptsMade).toBe(1);
    // An aggregator tells of it: the loss by its cause, and the generation that came after.
    await until('the second generation', 20_000, async () => {
      await withQueues(bench.redis, (queues) => readGauges(bench.redis, queues, 250));
      const told = await registry.metrics();
      expect(told).toContain('longhaul_cohort_losses{cohort="first",cause="LEASE_LOST"} 1\n');
      expect(told).not.toContain('longhaul_cohort_losses{cohort="second"');
      return told.includes('longhaul_cohort_generation{cohort="first"} 2\n');
    });
  });
});

/** A Redis of its own: one that is restarted would count as left behind by the test. */
async function withOwnServices(use: (bench: Bench, services: Services) => Promise<void>): Promise<void> {
  const own = await openServices(160);
  const mine = new Bench(own);
  try {
    await use(mine, own);
  } finally {
    await mine.close();
    await own.close();
  }
}

describe('Redis', () => {
  it('killed and back within the lease: the run goes on', () =>
    withOwnServices(async (bench, services) => {
      const cohort = bench.cohort(2);
      await bench.ready('c2');
      const id = await bench.submit(full(2), [slow]);
      await bench.reached(id, 'decode');
      // AOF is written every second: what a claim wrote is on the disk then.
      await sleep(1_500);
      await services.redis.kill('SIGKILL');
      await services.redis.restart();
      expect((await bench.answered(id)).execution.epoch).toBe(1);
      expect(cohort.starts).toBe(1);
    }));

  it('away for longer than the lease: the cohort gives up, forms anew, answers', () =>
    withOwnServices(async (bench, services) => {
      const cohort = bench.cohort(2);
      await bench.ready('c2');
      const id = await bench.submit(full(2), [slow]);
      await bench.reached(id, 'decode');
      await services.redis.kill('SIGSTOP');
      await until('both ranks ended', 15_000, () => Promise.resolve(cohort.exits.length >= 2));
      expect(cohort.exits.slice(0, 2).map((exit) => exit.code)).toEqual([75, 75]);
      await services.redis.kill('SIGCONT');
      expect((await bench.answered(id)).execution.epoch).toBe(2);
    }));

  it('out of memory: nothing is evicted, the cohort gives up, and answers when there is room', () =>
    withOwnServices(async (bench) => {
      const cohort = bench.cohort(2);
      await bench.ready('c2');
      const id = await bench.submit(full(2), [slow]);
      await bench.reached(id, 'decode');
      await bench.redis.config('SET', 'maxmemory', '1');
      await until('both ranks ended', 15_000, () => Promise.resolve(cohort.exits.length >= 2));
      expect(cohort.exits.slice(0, 2).map((exit) => exit.code)).toEqual([75, 75]);
      await expect(bench.redis.set('one-more', '1')).rejects.toThrow('OOM');
      await bench.redis.config('SET', 'maxmemory', '0');
      expect((await bench.answered(id)).execution.epoch).toBe(2);
      expect((await bench.job(id)).attemptsMade).toBe(1);
      expect(await bench.redis.info('stats')).toContain('evicted_keys:0');
    }));

  it('with a policy that evicts is refused, with the remedy, before anything is claimed', () =>
    withOwnServices(async (bench, services) => {
      await bench.redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await expect(checkRedis(bench.redis, services.redis.url)).rejects.toThrow(
        /maxmemory-policy allkeys-lru.*set it to noeviction/,
      );
      const cohort = bench.cohort(1, 'evicting');
      await until('the rank ended', 15_000, () => Promise.resolve(cohort.exits.length >= 1));
      expect(cohort.exits[0]?.code).not.toBe(0);
      expect(cohort.log()).toContain('allkeys-lru');
    }));
});

describe('S3', () => {
  it('away: items go back unburned, claims pause, and all is answered when it is back', async () => {
    const cohort = bench.cohort(2);
    await bench.ready('c2');
    // Work items cannot be read; the test itself still writes its batch.
    const held = await services.s3.faults.add({
      operation: 'GetObject',
      key: '/items/',
      times: 100_000,
      action: { kind: 'error' },
    });
    const id = await bench.submit(full(2), [short, { ...short, document: documentOf(64, 2) }]);
    await until('a fault on record', 30_000, async () => {
      const faults = await bench.redis.hget(redisKeys.item(id, 0), 'infrastructure_faults');
      return Number(faults) >= 2;
    });
    expect(await services.s3.faults.hits(held)).toBeGreaterThan(0);
    await services.s3.faults.clear();
    for (const item of [0, 1]) {
      await bench.answered(id, item);
      expect((await bench.job(id, item)).attemptsMade).toBe(1);
    }
    expect(cohort.starts).toBe(1);
  });

  it('away after the documents were read: the run does not notice', async () => {
    const cohort = bench.cohort(2);
    await bench.ready('c2');
    const id = await bench.submit(full(2), [slow]);
    await bench.reached(id, 'decode');
    await services.s3.faults.set({ outage: 'reset' });
    expect((await bench.answered(id)).execution.epoch).toBe(1);
    expect(cohort.starts).toBe(1);
  });
});

it('an item that takes three cohorts with it fails as POISON, with its history; others go on', async () => {
  const cohort = bench.cohort(2);
  const id = await bench.submit(full(2), [{ ...slow, maxTokens: 4_000 }]);
  for (const epoch of [1, 2, 3]) {
    await until(`epoch ${epoch} runs`, 40_000, async () => {
      const { progress } = await bench.job(id);
      return typeof progress === 'object' && 'epoch' in progress && progress['epoch'] === epoch;
    });
    cohort.kill(epoch % 2);
  }
  const failure = await bench.failed(id);
  expect(failure).toMatchObject({ end: 'failed', code: 'POISON' });
  const { message } = failure as { message: string };
  for (const epoch of [1, 2, 3]) expect(message).toContain(`epoch ${epoch}, generation`);
  const { history = [] } = itemFailure.parse(failure);
  expect(history.map(({ cohort, epoch }) => [cohort, epoch])).toEqual([
    ['c2', 1],
    ['c2', 2],
    ['c2', 3],
  ]);
  for (const { at, phase } of history) {
    expect(Math.abs(at - Date.now() / 1000)).toBeLessThan(300);
    expect(phase).toMatch(/prefill|decode/);
  }
  // Epoch 2 lost its leader: only the next claim could notice.
  expect(history[1]).toMatchObject({ code: 'VANISHED', rank: null });
  await bench.answered(await bench.submit(full(2), [short]));
});

it('no claims above the bound of uncommitted answers, and again below it', async () => {
  bench.cohort(1, 'bounded', { uncommittedBound: 2 });
  const items = Array.from({ length: 8 }, (_, seed) => ({ document: documentOf(32, seed), questions }));
  const id = await bench.submit(full(1), items);
  const answered = async () => {
    let count = 0;
    for (let item = 0; item < items.length; item++)
      if (await (await bench.job(id, item)).isCompleted()) count++;
    return count;
  };
  await until('answers up to the bound', 30_000, async () => (await answered()) >= 3);
  await sleep(2_000);
  // One above the bound: that is what closes the gate.
  expect(await answered()).toBe(3);
  // An aggregator takes them.
  await bench.redis.del('{longhaul}:outcomes:wait');
  await until('more answers', 30_000, async () => (await answered()) >= 6);
  expect(texts(await bench.answered(id, 0))).toHaveLength(1);
});
