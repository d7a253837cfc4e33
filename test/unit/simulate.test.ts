/** The simulation behind docs/scaling.md: nothing is lost, chance is the seed's, and queues are as theory has them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { simulate, type Kind, type Scenario } from '../../bench/simulate/simulate.js';

const kind = (prefillSeconds: number, tokens = 1000): Kind => ({
  tokens,
  weight: 1,
  prefillSeconds,
  decodeSeconds: 0,
});
/** Cohorts alone take time. */
const ideal: Scenario = {
  seed: 1,
  documents: 100,
  mix: [kind(1)],
  arrivals: {},
  submit: { processes: 1, secondsPerDocument: 0, secondsPerToken: 0, redisSeconds: 0, s3Requests: 0 },
  cohorts: {
    count: 1,
    claimSeconds: 0,
    formSeconds: 0,
    deathsPerHour: 0,
    detectSeconds: 0,
    redisSeconds: 0,
    s3Requests: 0,
  },
  aggregators: { count: 1, secondsPerItem: 0, redisSeconds: 0, s3Requests: 0 },
  s3: { requestsPerSecond: 1000, latency: 0 },
  uncommittedBound: 1000,
};
const scenario = (change: Partial<Scenario>): Scenario => ({ ...ideal, ...change });

const anything = fc.record({
  seed: fc.integer(),
  documents: fc.integer({ min: 1, max: 200 }),
  count: fc.integer({ min: 1, max: 8 }),
  deathsPerHour: fc.constantFrom(0, 60, 900),
  perSecond: fc.constantFrom(undefined, 0.5, 5),
  secondsPerItem: fc.constantFrom(0, 0.3, 3),
  uncommittedBound: fc.constantFrom(1, 5, 1000),
  horizon: fc.constantFrom(10, 100, 5000),
});
const busy = (one: typeof anything extends fc.Arbitrary<infer T> ? T : never): Scenario =>
  scenario({
    ...one,
    mix: [kind(0.5), { ...kind(4, 9000), weight: 0.2 }],
    arrivals: one.perSecond === undefined ? {} : { perSecond: one.perSecond },
    submit: {
      processes: 2,
      secondsPerDocument: 0.1,
      secondsPerToken: 1e-5,
      redisSeconds: 0.002,
      s3Requests: 2,
    },
    cohorts: {
      ...ideal.cohorts,
      count: one.count,
      deathsPerHour: one.deathsPerHour,
      formSeconds: 3,
      detectSeconds: 2,
    },
    aggregators: { count: 1, secondsPerItem: one.secondsPerItem, redisSeconds: 0.002, s3Requests: 2 },
    s3: { requestsPerSecond: 50, latency: 0.05 },
  });

test('no document is lost or doubled, whenever one looks', () => {
  fc.assert(
    fc.property(anything, (one) => {
      const { counts, utilisation } = simulate(busy(one));
      const { arrived, ...places } = counts;
      expect(Object.values(places).reduce((sum, each) => sum + each, 0)).toBe(arrived);
      expect(arrived).toBeLessThanOrEqual(one.documents);
      expect(Math.min(...Object.values(counts))).toBeGreaterThanOrEqual(0);
      expect(counts.uncommitted).toBeLessThanOrEqual(one.uncommittedBound + one.count);
      for (const share of Object.values(utilisation)) {
        expect(share).toBeGreaterThanOrEqual(-1e-9);
        expect(share).toBeLessThanOrEqual(1 + 1e-9);
      }
    }),
    { numRuns: 80 },
  );
});

test('all is committed in the end, whatever dies', () => {
  fc.assert(
    fc.property(anything, (one) => {
      const { counts } = simulate({ ...busy(one), horizon: undefined });
      expect(counts).toMatchObject({ committed: one.documents, waiting: 0, running: 0, uncommitted: 0 });
    }),
    { numRuns: 40 },
  );
});

test('one seed gives one result, another one another', () => {
  const one = busy({
    seed: 7,
    documents: 200,
    count: 3,
    deathsPerHour: 60,
    perSecond: 5,
    secondsPerItem: 0.3,
    uncommittedBound: 1000,
    horizon: 5000,
  });
  expect(simulate(one)).toEqual(simulate(one));
  expect(simulate(one)).not.toEqual(simulate({ ...one, seed: 8 }));
});

test('a batch on some cohorts takes what they take for it', () => {
  expect(simulate(ideal).seconds).toBeCloseTo(100);
  expect(simulate(scenario({ cohorts: { ...ideal.cohorts, count: 4 } })).seconds).toBeCloseTo(25);
  const { seconds, utilisation } = simulate(
    scenario({ cohorts: { ...ideal.cohorts, count: 4, claimSeconds: 0.5, formSeconds: 10 } }),
  );
  expect(seconds).toBeCloseTo(10 + 25 * 1.5);
  expect(utilisation.cohorts).toBeCloseTo((25 * 1.5) / (10 + 25 * 1.5));
  // Two lengths in turns on two cohorts.
  const turns = scenario({
    mix: [kind(1), kind(3)],
    order: 'given',
    cohorts: { ...ideal.cohorts, count: 2 },
  });
  expect(simulate({ ...turns, documents: 4 }).seconds).toBeCloseTo(5);
});

test.each([0.3, 0.6, 0.8])('documents that come by chance wait as in an M/D/1 queue of load %f', (load) => {
  const { meanWaitSeconds, utilisation } = simulate(
    scenario({ documents: 30_000, arrivals: { perSecond: load } }),
  );
  expect(utilisation.cohorts).toBeCloseTo(load, 1);
  const expected = load / (2 * (1 - load));
  expect(Math.abs(meanWaitSeconds / expected - 1)).toBeLessThan(0.1);
});

test('the part that is slowest sets the rate, and is the one that always works', () => {
  const many = scenario({ documents: 2000, cohorts: { ...ideal.cohorts, count: 50 } });
  const parts: [string, Partial<Scenario>][] = [
    ['submit', { submit: { ...ideal.submit, secondsPerDocument: 0.1 } }],
    ['redis', { aggregators: { ...ideal.aggregators, redisSeconds: 0.1 } }],
    [
      's3',
      { s3: { requestsPerSecond: 20, latency: 0.5 }, aggregators: { ...ideal.aggregators, s3Requests: 2 } },
    ],
    ['aggregators', { aggregators: { ...ideal.aggregators, secondsPerItem: 0.1 } }],
  ];
  for (const [part, change] of parts) {
    const { documentsPerSecond, utilisation } = simulate({ ...many, ...change });
    expect(documentsPerSecond, part).toBeCloseTo(10, 0);
    const [slowest] = Object.entries(utilisation).sort(([, a], [, b]) => b - a);
    expect(slowest?.[0]).toBe(part);
    expect(slowest?.[1]).toBeGreaterThan(0.95);
  }
});

test('deaths cost the work under way and the time to form, no more', () => {
  const calm = scenario({ documents: 5000, cohorts: { ...ideal.cohorts, count: 1, formSeconds: 10 } });
  const { seconds, deaths, wastedSeconds } = simulate({
    ...calm,
    cohorts: { ...calm.cohorts, deathsPerHour: 36 },
  });
  expect(deaths).toBeGreaterThan(20);
  expect(seconds).toBeCloseTo(simulate(calm).seconds + wastedSeconds + deaths * 10, -1);
});
