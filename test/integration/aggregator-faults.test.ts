import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { downloadResults } from '../../src/batch/results.js';
import { getStatus } from '../../src/batch/status.js';
import { readSuccess } from '../../src/batch/success.js';
import { redisKeys } from '../../src/platform/keys.js';
import { endProcess, startRedis } from '../support/services.js';
import { Bench, makeBatch, makeResult, newId, spawnCli, testConfig, useBench } from './batch-support.js';

const file = useBench();
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});
const ones = (count: number) => Array.from({ length: count }, () => 1);

/** Every request once, in one of the two files, in order; one outcome object each. */
async function checkWhole(id: string, total: number): Promise<void> {
  const { output, error } = await bench.files(id);
  const ordinals = [...output, ...error].map((o) => o.ordinal).sort((a, b) => a - b);
  expect(ordinals).toEqual(Array.from({ length: total }, (_, i) => i));
  expect(await bench.outcomeKeys(id)).toHaveLength(total);
}

test('an aggregator killed between the PUT of an outcome and the completion loses and doubles nothing', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [3, 2, 2] });
  await createBatch(bench.deps, manifest, items);
  bench.answering((job) => makeResult(items[job.item]!));
  // The first outcome of each item is written; the PUTs after three of them hang.
  await file.s3.faults.add({
    operation: 'PutObject',
    key: '/outcomes/',
    skip: 3,
    times: 1000,
    action: { kind: 'delay', ms: 60_000 },
  });
  const first = spawnCli(bench.config, ['aggregator']);
  try {
    await bench.until(async () => ((await bench.outcomeKeys(id)).length === 3 ? true : undefined), 30_000);
    await endProcess(first, 'SIGKILL');
  } finally {
    await endProcess(first, 'SIGKILL');
  }
  await file.s3.faults.clear();
  expect((await getStatus(bench.deps, id)).request_counts.pending).toBeGreaterThan(0);

  const second = spawnCli(bench.config, ['aggregator']);
  try {
    const status = await bench.ended(id);
    expect(status).toMatchObject({
      status: 'completed',
      request_counts: { total: 7, answered: 7, failed: 0 },
      // Documents of 1000, 1001 and 1002 tokens with 3, 2 and 2 requests, each run for 0.75 s on 4 ranks.
      usage: { document_tokens: 7006, query_tokens: 21, answer_tokens: 14 },
      work: { documents: 3, document_tokens: 3003, rank_seconds: { gpu: 0, cpu: 9 } },
    });
    expect(await readSuccess(bench.deps.store, id)).toMatchObject({ usage: status.usage, work: status.work });
    await checkWhole(id, 7);
    expect(await bench.deps.redis.hexists(redisKeys.batch(id), 'conflicts')).toBe(0);
    const exited = once(second, 'exit');
    second.kill('SIGTERM');
    expect((await exited)[0]).toBe(0);
  } finally {
    await endProcess(second, 'SIGKILL');
  }
});

test('an emptied Redis in the middle of batches: everything still ends', async () => {
  const ids = [newId(), newId()];
  const made = new Map(ids.map((id) => [id, makeBatch(id, { items: ones(60) })]));
  const { stop } = bench.aggregator();
  for (const { manifest, items } of made.values()) await createBatch(bench.deps, manifest, items);
  let answers = 0;
  bench.answering(async (job) => {
    answers += 1;
    await new Promise((done) => setTimeout(done, 30));
    return makeResult(made.get(job.batch_id)!.items[job.item]!);
  }, 4);
  await bench.until(() => Promise.resolve(answers > 40 ? true : undefined));
  await bench.deps.redis.flushall();
  await bench.until(() => Promise.resolve(answers > 90 ? true : undefined), 30_000);
  await bench.deps.redis.flushall();
  for (const id of ids) {
    const status = await bench.until(async () => {
      const now = await getStatus(bench.deps, id);
      return now.completed_at === null ? undefined : now;
    }, 60_000);
    expect(status).toMatchObject({
      status: 'completed',
      request_counts: { total: 60, answered: 60 },
      work: { documents: 60, document_tokens: 61_770, rank_seconds: { gpu: 0, cpu: 180 } },
    });
    await checkWhole(id, 60);
  }
  await stop();
});

test('a submit that died after the manifest is made good without it', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: ones(5) });
  await createBatch(bench.deps, manifest, items);
  await bench.deps.redis.flushall();
  bench.aggregator();
  bench.answering((job) => makeResult(items[job.item]!));
  expect((await bench.ended(id)).request_counts.answered).toBe(5);
});

test('three aggregators at once: each request has one outcome, counts add up, one _SUCCESS', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [...ones(40), 5, 5] });
  for (let i = 0; i < 3; i++) bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  bench.answering((job) => makeResult(items[job.item]!));
  const status = await bench.ended(id);
  expect(status.request_counts).toMatchObject({ total: 50, answered: 50, pending: 0 });
  await checkWhole(id, 50);
  expect(await bench.deps.redis.hexists(redisKeys.batch(id), 'conflicts')).toBe(0);
});

test('503 bursts and replies lost after the write: no answer lost, none in conflict', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [...ones(20), 4] });
  await createBatch(bench.deps, manifest, items);
  const key = '/outcomes/';
  await file.s3.faults.add({
    operation: 'PutObject',
    key,
    times: 60,
    action: { kind: 'error', status: 503 },
  });
  await file.s3.faults.add({ operation: 'PutObject', key, times: 5, action: { kind: 'reset-after' } });
  await file.s3.faults.add({ operation: 'GetObject', key, times: 10, action: { kind: 'truncate' } });
  bench.aggregator({ ...bench.config, s3Attempts: 1 });
  bench.answering((job) => makeResult(items[job.item]!));
  const status = await bench.ended(id, 60_000);
  expect(status.request_counts).toMatchObject({ total: 24, answered: 24, pending: 0 });
  await checkWhole(id, 24);
  expect(await bench.deps.redis.hexists(redisKeys.batch(id), 'conflicts')).toBe(0);
});

test('S3 away: answers wait in Redis, no attempt is burned, and go out when it is back', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: ones(10) });
  bench.aggregator({ ...bench.config, s3Attempts: 1 });
  await createBatch(bench.deps, manifest, items);
  await file.s3.faults.set({ outage: 'reset' });
  bench.answering((job) => makeResult(items[job.item]!));
  await bench.until(async () =>
    (await bench.deps.redis.zcard('{longhaul}:documents:completed')) === 10 ? true : undefined,
  );
  await bench.until(async () =>
    Number(await bench.deps.redis.get(redisKeys.uncommitted())) === 10 ? true : undefined,
  );
  await new Promise((done) => setTimeout(done, 2_000));
  expect((await getStatus(bench.deps, id)).request_counts.pending).toBe(10);
  expect(await bench.deps.redis.zcard('{longhaul}:outcomes:failed')).toBe(0);
  await file.s3.faults.set({ outage: false });
  expect((await bench.ended(id)).request_counts.answered).toBe(10);
});

test('an outcome that vanished from S3 is made again before the batch is finished', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: ones(6) });
  await createBatch(bench.deps, manifest, items);
  let go: () => void = () => undefined;
  const hold = new Promise<void>((resolve) => (go = resolve));
  bench.answering(async (job) => {
    if (job.item === 5) await hold;
    return makeResult(items[job.item]!);
  });
  bench.aggregator();
  await bench.until(async () =>
    (await getStatus(bench.deps, id)).request_counts.answered === 5 ? true : undefined,
  );
  const [lost] = await bench.outcomeKeys(id);
  await bench.deps.store.delete(lost!);
  go();
  expect((await bench.ended(id)).request_counts.answered).toBe(6);
  await checkWhole(id, 6);
});

test('Redis killed and started again in the middle: the aggregator goes on', async () => {
  const own = await startRedis();
  const mine = new Bench(testConfig(own, file.s3));
  try {
    const id = newId();
    const { manifest, items } = makeBatch(id, { items: ones(40) });
    mine.aggregator();
    await createBatch(mine.deps, manifest, items);
    let answers = 0;
    mine.answering(async (job) => {
      answers += 1;
      await new Promise((done) => setTimeout(done, 50));
      return makeResult(items[job.item]!);
    }, 2);
    await mine.until(() => Promise.resolve(answers > 10 ? true : undefined));
    await own.kill('SIGKILL');
    await new Promise((done) => setTimeout(done, 1_000));
    await own.restart();
    await mine.until(async () => {
      const status = await getStatus(mine.deps, id).catch(() => undefined);
      return status === undefined || status.completed_at === null ? undefined : true;
    }, 60_000);
    await checkWhole(id, 40);
  } finally {
    await mine.release();
    await own.stop();
  }
});

test('an aggregator leaves within its limits although Redis hangs', async () => {
  const aggregator = spawnCli(bench.config, ['aggregator'], { LONGHAUL_LOG_LEVEL: 'info' });
  try {
    await once(aggregator.stderr!, 'data');
    await bench.until(async () =>
      (await bench.deps.redis.exists(redisKeys.uncommitted())) === 1 ? true : undefined,
    );
    await file.redis.kill('SIGSTOP');
    const begun = Date.now();
    const exited = once(aggregator, 'exit');
    aggregator.kill('SIGTERM');
    expect((await exited)[0]).toBe(0);
    const { drain, abort } = bench.config.timings;
    expect(Date.now() - begun).toBeLessThan(drain + abort + 3_000);
  } finally {
    await file.redis.kill('SIGCONT');
    await endProcess(aggregator, 'SIGKILL');
  }
});

test('files above 8 MB go out in parts, and come back whole', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: ones(60) });
  bench.aggregator();
  await createBatch(bench.deps, manifest, items);
  bench.answering((job) => makeResult(items[job.item]!, 'long '.repeat(40_000)));
  await bench.ended(id);
  const before = (await file.s3.faults.state()).requests;
  expect(before['CompleteMultipartUpload']).toBeGreaterThan(0);
  const directory = await mkdtemp(join(tmpdir(), 'longhaul-parts-'));
  try {
    const { output, success } = await downloadResults(bench.deps, id, directory);
    expect(success.files.output.bytes).toBeGreaterThan(12_000_000);
    expect((await stat(output)).size).toBe(success.files.output.bytes);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
