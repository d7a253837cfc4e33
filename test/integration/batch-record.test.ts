import fc from 'fast-check';
import type { Redis } from 'ioredis';
import { beforeEach, expect, test } from 'vitest';
import { canonicalJson } from '../../src/batch/canonical.js';
import { createBatch } from '../../src/batch/create.js';
import { enqueueItems, itemStates, removeChildren } from '../../src/batch/enqueue.js';
import { indexManifest } from '../../src/batch/manifest.js';
import { encodeOutcome, toOutcomes } from '../../src/batch/outcomes.js';
import { withQueues } from '../../src/batch/queues.js';
import {
  forgetOutcomes,
  recordedOrdinals,
  recordedStatuses,
  recordFinished,
  recordOutcomes,
  registerBatch,
} from '../../src/batch/record.js';
import { restoreBatch } from '../../src/batch/restore.js';
import { getStatus } from '../../src/batch/status.js';
import { addTotals, describeTotals, noTotals, TOTALS, type Totals } from '../../src/batch/totals.js';
import { statusCommand } from '../../src/cli/status.js';
import { countUncommitted } from '../../src/batch/uncommitted.js';
import { jobIds, objectKeys, QUEUE_PREFIX, QUEUES, redisKeys } from '../../src/platform/keys.js';
import {
  checkCounts,
  failItem,
  makeBatch,
  makeResult,
  newId,
  useBench,
  type Bench,
} from './batch-support.js';
import { runCommand } from './run-command.js';

const noLane = () => undefined;

const file = useBench();
let bench: Bench;
let redis: Redis;
beforeEach(() => {
  ({ bench } = file);
  ({ redis } = bench.deps);
});

test('whatever is recorded, forgotten and repeated, at once or in turn: the counts are the tally, and add up', async () => {
  const TOTAL = 8;
  const ordinal = fc.nat(TOTAL - 1);
  const status = fc.constantFrom(
    'answered' as const,
    'failed' as const,
    'cancelled' as const,
    'expired' as const,
  );
  const amount = fc.nat(100_000);
  const totals = fc
    .tuple(amount, amount, amount, amount, amount, amount, amount)
    .map((amounts) => Object.fromEntries(TOTALS.map((name, i) => [name, amounts[i] ?? 0])) as Totals);
  const step = fc.oneof(
    fc.record({
      record: fc.array(fc.record({ ordinal, status, conflict: fc.boolean(), totals }), { maxLength: 4 }),
    }),
    fc.record({ forget: fc.array(ordinal, { maxLength: 3 }) }),
    fc.constant({ look: true as const }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 8 }), async (rounds) => {
      const id = newId();
      const { manifest } = makeBatch(id, { items: [TOTAL] });
      await registerBatch(redis, manifest.header);
      // Commands of one client run in the order in which they were given: that is the model's order too.
      const model = new Map<number, { status: string; totals: Totals }>();
      for (const round of rounds) {
        await Promise.all(
          round.map(async (now) => {
            if ('look' in now) checkCounts(await getStatus(bench.deps, id));
            else if ('forget' in now) {
              now.forget.forEach((o) => model.delete(o));
              await forgetOutcomes(redis, id, now.forget);
            } else {
              now.record.forEach((c) => model.has(c.ordinal) || model.set(c.ordinal, c));
              const pending = TOTAL - model.size;
              expect(await recordOutcomes(redis, id, now.record)).toBe(pending);
            }
          }),
        );
      }
      const { request_counts, usage, work } = await getStatus(bench.deps, id);
      const tally = {
        total: TOTAL,
        answered: 0,
        failed: 0,
        cancelled: 0,
        expired: 0,
        pending: TOTAL - model.size,
      };
      const sum = noTotals();
      for (const one of model.values()) {
        tally[one.status as 'answered'] += 1;
        addTotals(sum, one.totals);
      }
      expect(request_counts).toEqual(tally);
      expect({ usage, work }).toEqual(describeTotals(sum));
      expect(await recordedOrdinals(redis, id)).toEqual(new Set(model.keys()));
      expect(await recordedStatuses(redis, id)).toEqual(
        new Map([...model].map(([ordinal, { status }]) => [ordinal, status])),
      );
    }),
    { numRuns: 40 },
  );
});

test('a finished batch takes no more records', async () => {
  const id = newId();
  const { manifest } = makeBatch(id, { items: [2] });
  const totals = noTotals();
  expect(await recordOutcomes(redis, id, [{ ordinal: 0, status: 'answered', totals }])).toBe('unregistered');
  await registerBatch(redis, manifest.header);
  const counts = { total: 2, answered: 2, failed: 0, cancelled: 0, expired: 0 };
  const usage = { document_tokens: 2000, query_tokens: 6, answer_tokens: 4 };
  const work = { documents: 1, document_tokens: 1000, rank_seconds: { gpu: 0, cpu: 3.001 } };
  await recordFinished(redis, id, { counts, usage, work }, 1_700_000_100);
  expect(await recordOutcomes(redis, id, [{ ordinal: 1, status: 'failed', totals }])).toBe('finished');
  expect(await getStatus(bench.deps, id)).toMatchObject({
    status: 'completed',
    completed_at: 1_700_000_100,
    request_counts: { answered: 2, failed: 0, pending: 0 },
    usage,
    work,
  });
});

test('jobs: references only, no retries by BullMQ, small event streams', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  await createBatch(bench.deps, manifest, items);
  await withQueues(redis, async ({ documents, outcomes }) => {
    const child = await documents.getJob(jobIds.document(id, 0));
    expect(child?.data).toEqual({ batch_id: id, item: 0 });
    expect(child?.opts).toMatchObject({ attempts: 1, removeOnComplete: false, removeOnFail: false });
    expect(await outcomes.getWaitingChildrenCount()).toBe(2);
    expect((await documents.getMeta()).maxLenEvents).toBe(100);
  });
  expect(await countUncommitted(redis)).toBe(0);
});

test('states of items, and items that nothing would ever run are repaired', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1, 1, 1] });
  const indexed = indexManifest(manifest);
  await createBatch(bench.deps, manifest, items);
  const all = [0, 1, 2, 3];
  let openGate = () => undefined as void;
  const gate = new Promise<void>((open) => (openGate = open));
  expect([...(await itemStates(redis, id, all, noLane)).values()]).toEqual([
    'alive',
    'alive',
    'alive',
    'alive',
  ]);

  // 0: both jobs gone. 1: the parent gone. 2: the child failed, the parent was removed and the flow added again.
  await withQueues(redis, async (queues) => {
    await queues.outcomes.remove(jobIds.outcome(id, 0));
    await queues.outcomes.remove(jobIds.outcome(id, 1), { removeChildren: false });
    bench.answering(async (job) => {
      if (job.item === 2) failItem({ end: 'failed', code: 'X', message: 'x' });
      await gate;
      return makeResult(items[job.item]!);
    });
    await bench.until(async () => ((await queues.documents.getFailedCount()) === 1 ? true : undefined));
    await queues.outcomes.remove(jobIds.outcome(id, 2), { removeChildren: false });
    await enqueueItems(queues, { batch_id: id }, [2], noLane);
  });
  const states = await itemStates(redis, id, all, noLane);
  expect([states.get(0), states.get(2), states.get(3)]).toEqual(['none', 'broken', 'alive']);
  expect(states.get(1)).toBe('broken');
  expect(await restoreBatch(bench.deps, indexed)).toEqual({ pending: 4, enqueued: 2 });
  const after = await itemStates(redis, id, all, noLane);
  expect([after.get(0), after.get(2)]).toEqual(['alive', 'alive']);
  // A cohort holds item 1: it is only repaired when that run is over.
  openGate();
  bench.aggregator();
  expect((await bench.ended(id)).request_counts).toMatchObject({ answered: 3, failed: 1 });
});

test('a Redis that went back in time does not run again what S3 has', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  await createBatch(bench.deps, manifest, items);
  const [outcome] = toOutcomes(manifest.header, manifest.requests.slice(0, 1), makeResult(items[0]!));
  await bench.deps.store.create(objectKeys.outcome(id, 0, 'request 0'), encodeOutcome(outcome!));
  await restoreBatch(bench.deps, indexManifest(manifest));
  expect((await getStatus(bench.deps, id)).request_counts).toMatchObject({ answered: 1, pending: 1 });
  const child = `${QUEUE_PREFIX}:${QUEUES.documents}:`;
  expect(await redis.exists(child + jobIds.document(id, 0), child + jobIds.document(id, 1))).toBe(1);
});

test('leftovers of a submit that died before its manifest are used; other content is a conflict', async () => {
  const id = newId();
  const old = makeBatch(id, { items: [1, 1], expiresAt: 1_700_000_500 });
  const { manifest, items } = makeBatch(id, { items: [1, 1], expiresAt: 4_000_000_000 });
  const key = objectKeys.item(id, 0);
  await bench.deps.store.create(key, canonicalJson(old.items[0]) + '\n');
  expect(await createBatch(bench.deps, manifest, items)).toEqual({ id, created: true });
  const stored = JSON.parse((await bench.deps.store.get(key)).toString()) as { expires_at: number };
  expect(stored.expires_at).toBe(4_000_000_000);

  const third = makeBatch(newId(), { items: [1] });
  const foreign = { ...third.items[0], document: { sha256: '0'.repeat(64), tokens: 5 } };
  await bench.deps.store.create(objectKeys.item(third.items[0]!.batch_id, 0), canonicalJson(foreign));
  await expect(createBatch(bench.deps, third.manifest, third.items)).rejects.toMatchObject({
    code: 'CONFLICT',
  });
  await expect(createBatch(bench.deps, third.manifest, [])).rejects.toMatchObject({ code: 'MANIFEST' });
});

test('10,000 items are enqueued in bounded steps', async () => {
  const id = newId();
  const items = Array.from({ length: 10_000 }, (_, i) => i);
  await withQueues(redis, async (queues) => {
    const begun = performance.now();
    await enqueueItems(queues, { batch_id: id }, items, noLane);
    expect(performance.now() - begun).toBeLessThan(30_000);
    expect(await queues.documents.getPrioritizedCount()).toBe(10_000);
    expect(await removeChildren(queues, id, items, noLane)).toBe(0);
    expect(await queues.outcomes.getWaitingCount()).toBe(10_000);
  });
  expect(await countUncommitted(redis)).toBe(10_000);
  expect(await redis.exists(redisKeys.batch(id))).toBe(0);
});

test('the status says why items are given back', async () => {
  const [id, other] = [newId(), newId()];
  for (const batch of [id, other]) {
    const { manifest, items } = makeBatch(batch, { items: [1, 1, 1] });
    await createBatch(bench.deps, manifest, items);
    await redis.hset(redisKeys.item(batch, 1), {
      infrastructure_faults: 3,
      last_fault: 'S3: away',
      engine_deaths: 1,
    });
    // It waits out its back-off.
    const queue = `${QUEUE_PREFIX}:${QUEUES.documents}`;
    await redis.zrem(`${queue}:prioritized`, jobIds.document(batch, 1));
    await redis.zadd(`${queue}:delayed`, Date.now() + 60_000, jobIds.document(batch, 1));
  }
  expect((await getStatus(bench.deps, id)).given_back).toEqual([
    { item: 1, infrastructure_faults: 3, last_fault: 'S3: away', engine_deaths: 1 },
  ]);
  const { stdout } = await runCommand(bench.config, statusCommand(), id);
  expect(stdout).toContain('document 1 was given back: 3 faults, last S3: away; 1 cohort ended by it\n');
});
