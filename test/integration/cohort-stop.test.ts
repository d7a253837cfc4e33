/** Runs that are ended on purpose: cancel, expiry, drain. No attempt is burned, the communicator lives. */
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { raiseCancel, unixNow } from '../../src/batch/flags.js';
import { documentOf, full, until, useBench, type Bench } from '../chaos/cohort-support.js';

const file = useBench(160);
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});

const questions = [[20, 31, 42, 53]];
const short = { document: documentOf(64), questions };
const long = { document: documentOf(8192), questions, maxTokens: 20 };

it.each(['prefill', 'decode'] as const)(
  'a cancel during %s stops all ranks, and the cohort goes on',
  async (phase) => {
    const cohort = bench.cohort(2);
    const slow = phase === 'prefill' ? long : { ...short, maxTokens: 4000 };
    const id = await bench.submit(full(2), [slow]);
    await bench.reached(id, phase);
    await raiseCancel(bench, id);
    const since = Date.now();
    expect(await bench.failed(id)).toMatchObject({ end: 'cancelled', code: 'CANCELLED' });
    expect(Date.now() - since).toBeLessThan(5_000);
    await bench.answered(await bench.submit(full(2), [short]));
    expect(cohort.starts).toBe(1);
  },
);

it('a cancelled item is not started at all', async () => {
  const id = await bench.submit(full(1), [long]);
  await raiseCancel(bench, id);
  bench.cohort(1);
  expect(await bench.failed(id)).toMatchObject({ end: 'cancelled' });
  expect((await bench.job(id)).progress).toBe(0);
});

it('an item that expires, waiting or running, ends as expired', async () => {
  // Long enough to be enqueued on a busy machine, too.
  const expiresAt = unixNow() + 3;
  const waiting = await bench.submit(full(2), [short], { expiresAt });
  while (unixNow() <= expiresAt) await sleep(100);
  const cohort = bench.cohort(2);
  expect(await bench.failed(waiting)).toMatchObject({ end: 'expired', code: 'EXPIRED' });
  const running = await bench.submit(full(2), [{ ...short, maxTokens: 20_000 }], {
    expiresAt: unixNow() + 2,
  });
  expect(await bench.failed(running)).toMatchObject({ end: 'expired' });
  expect(cohort.starts).toBe(1);
});

it('a drain lets a short item end', async () => {
  const cohort = bench.cohort(2);
  const id = await bench.submit(full(2), [{ ...short, maxTokens: 100 }]);
  await bench.reached(id, 'decode');
  await cohort.stop();
  expect((await bench.answered(id, 0, 100)).execution.epoch).toBe(1);
  expect(cohort.codes()).toEqual([0, 0]);
  expect(await bench.state('c2')).toMatchObject({ state: 'CLOSED' });
});

it('a drain gives a long item back unburned, and another cohort answers it', async () => {
  const cohort = bench.cohort(2);
  const item = { ...short, maxTokens: 1000 };
  const id = await bench.submit(full(2), [item]);
  await bench.reached(id, 'decode');
  await cohort.stop();
  expect(cohort.codes()).toEqual([0, 0]);
  const job = await bench.job(id);
  expect(await job.getState()).toBe('prioritized');
  expect(job.attemptsMade).toBe(0);
  bench.cohort(2, 'second');
  const result = await bench.answered(id, 0, 90_000);
  expect(result.execution).toMatchObject({ cohort: 'second', epoch: 2 });
});

it('SIGTERM to one follower closes the whole cohort, the item in hand first', async () => {
  const cohort = bench.cohort(2);
  const id = await bench.submit(full(2), [{ ...short, maxTokens: 100 }]);
  await bench.reached(id, 'decode');
  cohort.kill(1, 'SIGTERM');
  expect((await bench.answered(id)).execution.epoch).toBe(1);
  await until('all ranks started anew', 20_000, () => Promise.resolve(cohort.starts === 2));
  // The follower was asked; the leader was not, and wants to form anew.
  expect(cohort.exits).toContainEqual({ rank: 1, code: 0, signal: null });
  expect(cohort.exits).toContainEqual({ rank: 0, code: 75, signal: null });
});

it('a second SIGTERM ends a rank at once', async () => {
  const cohort = bench.cohort(1);
  const id = await bench.submit(full(1), [long]);
  await bench.reached(id, 'prefill');
  cohort.kill(0, 'SIGTERM');
  await sleep(200);
  const since = Date.now();
  cohort.kill(0, 'SIGTERM');
  await until('exit', 3_000, () => Promise.resolve(cohort.exits.length > 0));
  expect(Date.now() - since).toBeLessThan(2_000);
  expect(cohort.exits[0]).toEqual({ rank: 0, code: 130, signal: null });
});
