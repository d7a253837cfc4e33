import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { cancelBatch } from '../../src/batch/cancel.js';
import { createBatch } from '../../src/batch/create.js';
import { encodeOutcome, toOutcomes } from '../../src/batch/outcomes.js';
import { withQueues } from '../../src/batch/queues.js';
import { downloadResults } from '../../src/batch/results.js';
import { listBatches } from '../../src/batch/list.js';
import { getStatus } from '../../src/batch/status.js';
import { runAggregator } from '../../src/aggregator/aggregator.js';
import { createLogger } from '../../src/platform/logger.js';
import { objectKeys, redisKeys } from '../../src/platform/keys.js';
import { failItem, makeBatch, makeResult, newId, useBench, type Bench } from './batch-support.js';

const file = useBench();
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});

test('answers of all items end in the files of the batch, and nothing is left in Redis', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 3, 2, 1, 4] });
  bench.aggregator();
  expect(await createBatch(bench.deps, manifest, items)).toEqual({ id, created: true });
  bench.answering((job) => {
    if (job.item === 3) failItem({ end: 'failed', code: 'TOO_LONG', message: 'the document is too long' });
    return makeResult(items[job.item]!);
  });
  const status = await bench.ended(id);
  expect(status.status).toBe('completed');
  expect(status.request_counts).toEqual({
    total: 11,
    answered: 10,
    failed: 1,
    cancelled: 0,
    expired: 0,
    pending: 0,
  });
  const { output, error } = await bench.files(id);
  expect(output.map((o) => o.ordinal)).toEqual([0, 1, 2, 3, 4, 5, 7, 8, 9, 10]);
  expect(output[1]?.answers[0]?.text).toBe('answer 1');
  expect(error).toMatchObject([{ ordinal: 6, status: 'failed', error: { code: 'TOO_LONG' } }]);
  // The last parent may be completing while the batch is finished.
  await bench.until(async () => ((await bench.jobKeys(id)).length === 0 ? true : undefined));
  expect(await bench.deps.redis.exists(redisKeys.batchOutcomes(id))).toBe(0);

  const dir = await mkdtemp(join(tmpdir(), 'longhaul-results-'));
  try {
    const results = await downloadResults(bench.deps, id, dir);
    expect(results.success.counts.answered).toBe(10);
    expect(results.success.usage.answer_tokens).toBe(20);
    expect((await readFile(results.output, 'utf8')).split('\n')).toHaveLength(11);
    const changed = (await readFile(results.error)).fill('x', 0, 5);
    await bench.deps.store.put(objectKeys.error(id), [changed]);
    await expect(downloadResults(bench.deps, id, dir)).rejects.toThrow('sha256');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }

  expect(await createBatch(bench.deps, manifest, items)).toEqual({ id, created: false });
  expect(await bench.jobKeys(id)).toEqual([]);
});

test('submitting twice, also at the same time, is one batch and runs each item once', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: Array.from({ length: 30 }, () => 1) });
  const later = structuredClone({ manifest, items });
  later.manifest.header.created_at += 60;
  const runs = new Map<number, number>();
  bench.aggregator();
  bench.answering((job) => {
    runs.set(job.item, (runs.get(job.item) ?? 0) + 1);
    return makeResult(items[job.item]!);
  });
  const both = await Promise.all([
    createBatch(bench.deps, manifest, items),
    createBatch(bench.deps, later.manifest, later.items),
    createBatch(bench.deps, manifest, items),
  ]);
  expect(both.filter(({ created }) => created)).toHaveLength(1);
  await bench.ended(id);
  expect([...runs.values()]).toEqual(Array.from({ length: 30 }, () => 1));

  later.manifest.requests[0]!.questions = ['another question?'];
  await expect(createBatch(bench.deps, later.manifest, later.items)).rejects.toMatchObject({
    code: 'CONFLICT',
  });
});

test('cancelling without a living cohort ends the batch; answers made before stay', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [2, 1, 1, 1] });
  bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  const cohort = bench.answering(async (job) => {
    if (job.item > 0) await new Promise((done) => setTimeout(done, 3_000));
    if (job.item > 0) failItem({ end: 'cancelled', code: 'CANCELLED', message: 'cancelled while it ran' });
    return makeResult(items[job.item]!);
  }, 2);
  await bench.until(async () =>
    (await getStatus(bench.deps, id)).request_counts.answered === 2 ? true : undefined,
  );
  const asked = await cancelBatch(bench.deps, id);
  expect(asked.status).toBe('cancelling');
  const status = await bench.ended(id);
  expect(status).toMatchObject({
    status: 'cancelled',
    request_counts: { answered: 2, cancelled: 3, failed: 0, pending: 0 },
  });
  expect(status.cancel_requested_at).not.toBeNull();
  await expect(cancelBatch(bench.deps, id)).rejects.toMatchObject({ code: 'BATCH_FINISHED' });
  await cohort.stop();
});

test('a cancelled batch that Redis forgets is still cancelled', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1, 1] });
  await createBatch(bench.deps, manifest, items);
  await cancelBatch(bench.deps, id);
  await bench.deps.redis.flushall();
  expect((await getStatus(bench.deps, id)).status).toBe('cancelling');
  bench.aggregator();
  expect(
    await bench.until(async () => {
      const status = await getStatus(bench.deps, id);
      return status.completed_at === null ? undefined : status;
    }),
  ).toMatchObject({ status: 'cancelled', request_counts: { cancelled: 3 } });
});

test('waiting items of an expired batch end by themselves', async () => {
  const id = newId();
  const expiresAt = Math.floor(Date.now() / 1000) + 3;
  const { manifest, items } = makeBatch(id, { items: [1, 2], expiresAt });
  bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  expect((await getStatus(bench.deps, id)).status).toBe('in_progress');
  const status = await bench.ended(id);
  expect(status).toMatchObject({ status: 'expired', request_counts: { expired: 3, pending: 0 } });
  const { output, error } = await bench.files(id);
  expect(output).toEqual([]);
  expect(error.map((o) => o.error?.code)).toEqual(['EXPIRED', 'EXPIRED', 'EXPIRED']);
});

test('a child removed by hand, without a flag, is an error and not a silent loss', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1] });
  bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  await withQueues(bench.deps.redis, (queues) => queues.documents.remove(`${id}-0-document`));
  await bench.ended(id);
  const { error } = await bench.files(id);
  expect(error).toMatchObject([{ status: 'failed', error: { code: 'NO_RESULT' } }]);
});

test('an outcome that is there already stands, and the difference is counted once', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  await createBatch(bench.deps, manifest, items);
  const [theirs] = toOutcomes(manifest.header, manifest.requests.slice(0, 1), makeResult(items[0]!, 'first'));
  await bench.deps.store.create(objectKeys.outcome(id, 0, 'request 0'), encodeOutcome(theirs!));
  let open = () => undefined as void;
  const gate = new Promise<void>((go) => (open = go));
  bench.answering(async (job) => {
    if (job.item === 1) await gate;
    return makeResult(items[job.item]!, 'second');
  });
  await bench.until(async () =>
    (await bench.deps.redis.zcard('{longhaul}:documents:completed')) === 1 ? true : undefined,
  );
  bench.aggregator();
  const conflicts = () => bench.deps.redis.hget(redisKeys.batch(id), 'conflicts');
  await bench.until(async () => ((await conflicts()) === '1' ? true : undefined));
  open();
  expect((await bench.ended(id)).request_counts.answered).toBe(2);
  expect(await conflicts()).toBe('1');
  const { output } = await bench.files(id);
  expect(output.map((o) => o.answers[0]?.text)).toEqual(['first 0', 'second 1']);
});

test('a store that ignores If-None-Match is refused at the start', async () => {
  await file.s3.faults.set({ ignoreConditions: true });
  try {
    const { config } = bench;
    await expect(
      runAggregator(config, createLogger('aggregator', config), new AbortController().signal),
    ).rejects.toThrow('does not honour If-None-Match');
  } finally {
    await file.s3.faults.set({ ignoreConditions: false });
  }
});

test('finished batches are found again after Redis was emptied', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  const aggregator = bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  bench.answering((job) => makeResult(items[job.item]!));
  const before = await bench.ended(id);
  await aggregator.stop();
  await bench.deps.redis.flushall();
  expect(await getStatus(bench.deps, id)).toEqual(before);
  expect((await listBatches(bench.deps)).map((b) => b.id)).toContain(id);
  bench.aggregator();
  await bench.until(async () =>
    (await bench.deps.redis.hexists(redisKeys.batch(id), 'completed_at')) === 1 ? true : undefined,
  );
  expect(await getStatus(bench.deps, id)).toEqual(before);
});
