/** Forming: who may join, in which order, and what people read when it does not work. */
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { cohortKeys } from '../../src/platform/keys.js';
import { documentOf, full, until, useBench, type Bench } from '../chaos/cohort-support.js';

const file = useBench(4);
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});

const item = { document: documentOf(64), questions: [[20, 31, 42]] };

it('followers wait for a leader that comes late; nothing is claimed before READY of all', async () => {
  const id = await bench.submit(full(3), [item]);
  const followers = [bench.rank(1, 3), bench.rank(2, 3)];
  await sleep(2_500);
  const leader = bench.rank(0, 3);
  expect((await bench.job(id)).attemptsStarted).toBe(0);
  await bench.answered(id);
  await Promise.all([leader, ...followers].map((rank) => rank.end()));
  expect([leader, ...followers].map((rank) => rank.child.exitCode)).toEqual([0, 0, 0]);
});

it('a rank that does not fit is told why, and so is the leader', async () => {
  const leader = bench.rank(0, 2, 'odd');
  const follower = bench.rank(1, 3, 'odd');
  await Promise.all([leader.gone(), follower.gone()]);
  for (const rank of [leader, follower]) {
    expect(rank.child.exitCode).toBe(1);
    expect(rank.log.join('')).toContain(
      'rank 1 does not fit cohort odd: ranks is 3 here and 2 at the leader; start all its ranks alike [CONFIG]',
    );
  }
});

it('a second leader of a living cohort is refused, and the first one goes on', async () => {
  const cohort = bench.cohort(1);
  await bench.ready('c1');
  const second = bench.rank(0, 1, 'c1');
  await second.gone();
  expect(second.child.exitCode).toBe(1);
  expect(second.log.join('')).toContain('cohort c1 has a living leader');
  await bench.answered(await bench.submit(full(1), [item]));
  expect(cohort.starts).toBe(1);
});

it('a second process under a rank that is taken stays out of it', async () => {
  const cohort = bench.cohort(2);
  await bench.ready('c2');
  const twin = bench.rank(1, 2, 'c2');
  await until('the twin has tried', 10_000, () =>
    Promise.resolve(twin.log.join('').includes('model loaded')),
  );
  await sleep(500);
  await bench.answered(await bench.submit(full(2), [item]));
  expect(cohort.starts).toBe(1);
  await twin.end();
});

it('a superseded generation gives up, also when Redis forgot the counter', async () => {
  const cohort = bench.cohort(2);
  const before = await bench.ready('c2');
  await bench.redis.del(cohortKeys('c2').generation, cohortKeys('c2').current);
  await until('a new generation', 20_000, async () => {
    const state = await bench.state('c2');
    return state['state'] === 'READY' && state['generation'] !== before['generation'];
  });
  const after = await bench.state('c2');
  expect(after['generation']?.split('.')[0]).toBe(before['generation']?.split('.')[0]);
  expect(cohort.starts).toBe(2);
  expect(cohort.exits.map((exit) => exit.code)).toEqual([75, 75]);
});
