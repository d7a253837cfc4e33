/** Documents wait by their length, and each cohort claims those of its lane alone. */
import { expect, test } from 'vitest';
import { runAggregator } from '../../src/aggregator/aggregator.js';
import { cancelBatch } from '../../src/batch/cancel.js';
import { lanesSet } from '../../src/batch/lanes.js';
import { readQueue } from '../../src/batch/queue-state.js';
import { outcome, success } from '../../src/contracts/outcome.js';
import { loadConfig } from '../../src/platform/config.js';
import { createLogger } from '../../src/platform/logger.js';
import { objectKeys, QUEUE_PREFIX } from '../../src/platform/keys.js';
import { documentOf, full, until, useBench } from '../chaos/cohort-support.js';

const file = useBench(2);
const lanes = lanesSet({ lanes: ['short:512'] });

const items = [300, 1500, 512, 513].map((tokens, seed) => ({
  document: documentOf(tokens, seed + 1),
  questions: [[20, 31, 42]],
}));

test('a cohort claims its lane, and what is in no lane waits for a cohort without one', async () => {
  const { bench } = file;
  const stop = new AbortController();
  const aggregator = runAggregator(bench.config, createLogger('aggregator', bench.config), stop.signal);
  const counts = async (id: string) =>
    success.parse(JSON.parse((await bench.store.get(objectKeys.success(id))).toString())).counts;
  const ended = (id: string) =>
    until(`the end of ${id}`, 30_000, () => bench.store.exists(objectKeys.success(id)));
  try {
    const id = await bench.submit(full(1), items, { lanes });
    const unserved = await bench.submit(full(1), items, { lanes });
    expect(await readQueue(bench.redis)).toMatchObject({ waiting: 8 });
    const waiting = (queue: string) => bench.redis.zcard(`${QUEUE_PREFIX}:${queue}:prioritized`);
    const queues = ['documents', 'documents-short'];
    expect(await Promise.all(queues.map(waiting))).toEqual([4, 4]);

    // No cohort is there for any lane: a cancel ends what waits.
    await cancelBatch({ store: bench.store, redis: bench.redis }, unserved);
    await ended(unserved);
    expect(await counts(unserved)).toMatchObject({ total: 4, cancelled: 4 });
    expect(await Promise.all(queues.map(waiting))).toEqual([2, 2]);

    bench.cohort(1, 'quick', { lane: 'short' });
    bench.cohort(1, 'patient');
    await ended(id);
    expect(await counts(id)).toMatchObject({ total: 4, answered: 4 });
    const by: (string | undefined)[] = [];
    for await (const key of bench.store.list(objectKeys.outcomes(id))) {
      by.push(outcome.parse(JSON.parse((await bench.store.get(key)).toString())).execution?.cohort);
    }
    expect(by).toEqual(['quick', 'patient', 'quick', 'patient']);
  } finally {
    stop.abort();
    await aggregator;
  }
});

test('lanes are named once, by growing bounds', () => {
  const load = (set: string) =>
    loadConfig({ flags: { lanes: set }, environment: {}, directory: '/nonexistent' }).lanes;
  expect(load('short:512, medium:800')).toEqual(['short:512', 'medium:800']);
  for (const wrong of ['short', 'short:0', 'short:9,short:10', 'short:9,medium:9', 'Short:9', 'a:b']) {
    expect(() => load(wrong), wrong).toThrow(/lanes = /);
  }
});
