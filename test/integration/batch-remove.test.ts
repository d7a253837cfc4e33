/** Listing, removing and forgetting batches. */
import { beforeEach, describe, expect, test } from 'vitest';
import { cancelBatch } from '../../src/batch/cancel.js';
import { createBatch } from '../../src/batch/create.js';
import { enqueueFinalise } from '../../src/batch/enqueue.js';
import { listBatches } from '../../src/batch/list.js';
import { withQueues } from '../../src/batch/queues.js';
import { removeBatch } from '../../src/batch/remove.js';
import { lifecycleRules } from '../../src/batch/retention.js';
import { getStatus } from '../../src/batch/status.js';
import { batchCommand } from '../../src/cli/batch.js';
import type { BatchStatus } from '../../src/contracts/status.js';
import { objectKeys, redisKeys } from '../../src/platform/keys.js';
import { Bench, makeBatch, makeResult, newId, testConfig, useBench } from './batch-support.js';
import { runCommand } from './run-command.js';

const file = useBench();
let bench: Bench;
let run = 0;
beforeEach(() => {
  bench = new Bench(testConfig(file.redis, file.s3, { s3Prefix: `remove-${run++}` }));
  return () => bench.release();
});
const batch = (...args: string[]) => runCommand(bench.config, batchCommand(), ...args);
const idle = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** A batch of as many items of one request, `age` seconds old. */
async function created(count = 1, age = 0): Promise<string> {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: Array.from({ length: count }, () => 1) });
  manifest.header.created_at -= age;
  await createBatch(bench.deps, manifest, items);
  return id;
}
function answering() {
  return bench.answering(({ item }) => makeResult(makeBatch('x', { items: [1, 1, 1, 1] }).items[item]!));
}
async function finished(count?: number, age?: number): Promise<string> {
  const id = await created(count, age);
  await bench.ended(id);
  return id;
}
async function keysOf(id: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of bench.deps.store.list(objectKeys.batch(id))) keys.push(key);
  return keys;
}

describe('batch list', () => {
  test('newest first, in pages; the same from S3 when Redis is empty', async () => {
    const ids: string[] = [];
    for (const age of [40, 10, 30, 20]) ids.push(await created(2, age));
    const [a, b, c, d] = ids as [string, string, string, string];
    const listed = async (...args: string[]) =>
      (JSON.parse((await batch('list', '--json', ...args)).stdout) as BatchStatus[]).map(({ id }) => id);
    expect(await listed()).toEqual([b, d, c, a]);
    expect(await listed('--limit', '2')).toEqual([b, d]);
    expect(await listed('--limit', '2', '--before', d)).toEqual([c, a]);
    expect(await listed('--before', a)).toEqual([]);
    const text = await batch('list', '--limit', '3');
    expect(text.stdout).toContain(
      `${b}  2023-11-14T22:13:10.000Z  in_progress: 0 of 2 requests ended  (test.jsonl)`,
    );
    expect(text.stderr).toBe(`older ones: --before ${c}\n`);
    await bench.deps.redis.flushall();
    expect(await listed()).toEqual([b, d, c, a]);
    expect(await listed('--limit', '2', '--before', d)).toEqual([c, a]);
    await expect(batch('list', '--before', newId())).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('batch rm', () => {
  test('removes a finished batch whole, and nothing of others', async () => {
    // Two, so that one has the manifest in memory that did not write the files.
    for (let i = 0; i < 2; i++) bench.aggregator();
    answering();
    const [id, other] = [await finished(4), await finished(2)];
    await bench.deps.store.create(objectKeys.deadItem(id, 0), '{}\n');
    await bench.deps.store.create(objectKeys.document('d'), 'ids');
    const before = await keysOf(other);
    expect((await batch('rm', id)).stdout).toMatch(new RegExp(`^removed ${id} \\(\\d+ objects\\)\n$`));
    expect(await keysOf(id)).toEqual([]);
    expect(await bench.deps.store.exists(objectKeys.deadItem(id, 0))).toBe(false);
    expect(await bench.deps.store.exists(objectKeys.document('d'))).toBe(true);
    await expect(getStatus(bench.deps, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(batch('rm', id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // Neither the reconciler nor work that comes late brings it back.
    for (let i = 0; i < 8; i++) {
      await withQueues(bench.deps.redis, (queues) => enqueueFinalise(queues, id));
      await bench.until(async () => ((await bench.jobKeys(id)).length === 0 ? true : undefined));
    }
    await idle(2_500);
    expect(await bench.deps.redis.keys(`*${id}*`)).toEqual([]);
    expect(await keysOf(other)).toEqual(before);
    expect((await listBatches(bench.deps)).map((one) => one.id)).toEqual([other]);
  });

  test('refuses an unfinished batch; when it was cancelled and has ended, it goes', async () => {
    const id = await created(2);
    await expect(batch('rm', id)).rejects.toMatchObject({
      code: 'NOT_FINISHED',
      message: `batch ${id} is not finished; end it with \`longhaul cancel ${id}\` and remove it then`,
    });
    bench.aggregator();
    await cancelBatch(bench.deps, id);
    await bench.ended(id);
    await removeBatch(bench.deps, id);
    expect(await keysOf(id)).toEqual([]);
  });

  test('cut short, the batch is gone for readers and reconciler; it is not taken up, and can be finished', async () => {
    const aggregator = bench.aggregator();
    answering();
    const id = await finished(4);
    await aggregator.stop();
    // The third DELETE fails: the manifest and one more are gone.
    await file.s3.faults.add({
      operation: 'DeleteObject',
      skip: 2,
      times: 1000,
      action: { kind: 'error', status: 500 },
    });
    const hasty = new Bench({ ...bench.config, s3Attempts: 1 });
    try {
      await expect(removeBatch(hasty.deps, id)).rejects.toMatchObject({ code: 'S3' });
    } finally {
      await hasty.release();
    }
    await file.s3.faults.clear();
    const left = await keysOf(id);
    expect(left).toContain(objectKeys.success(id));
    expect(left).not.toContain(objectKeys.manifest(id));
    await expect(getStatus(bench.deps, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await listBatches(bench.deps, { all: true })).toEqual([]);
    bench.aggregator();
    await idle(2_500);
    expect(await bench.deps.redis.exists(redisKeys.batch(id))).toBe(0);
    expect(await bench.jobKeys(id)).toEqual([]);

    const { manifest, items } = makeBatch(id, { items: [1, 1, 1, 1] });
    await expect(createBatch(bench.deps, manifest, items)).rejects.toMatchObject({ code: 'HALF_REMOVED' });
    await removeBatch(bench.deps, id);
    expect(await keysOf(id)).toEqual([]);
    // The same content may come again, as a new batch, also for an aggregator that had seen the old one end.
    expect(await createBatch(bench.deps, manifest, items)).toEqual({ id, created: true });
    await bench.deps.redis.flushdb();
    expect(
      await bench.until(async () => {
        const status = await getStatus(bench.deps, id);
        return status.completed_at === null ? undefined : status;
      }),
    ).toMatchObject({ status: 'completed', request_counts: { answered: 4 } });
  });
});

describe('retention', () => {
  test('prints lifecycle rules below the prefix; documents may not go before batches', async () => {
    const { stdout } = await batch('retention', '--batch-days', '10', '--document-days', '18');
    const { Rules } = JSON.parse(stdout) as {
      Rules: { Filter: { Prefix: string }; Expiration?: { Days: number } }[];
    };
    const days = Object.fromEntries(Rules.map((rule) => [rule.Filter.Prefix, rule.Expiration?.Days]));
    const prefix = bench.config.s3Prefix;
    expect(days).toMatchObject({
      [`${prefix}/batches/`]: 10,
      [`${prefix}/dead/`]: 10,
      [`${prefix}/documents/`]: 18,
    });
    expect(Rules.at(-1)).toMatchObject({
      Filter: { Prefix: `${prefix}/` },
      AbortIncompleteMultipartUpload: {},
    });
    expect(() => lifecycleRules(bench.config, { batchDays: 10, documentDays: 17 })).toThrow(
      'at least 18 days',
    );
  });

  test('finished batches leave Redis above the number that is kept; their status comes from S3, unchanged', async () => {
    answering();
    const first = bench.aggregator();
    const ids: string[] = [];
    for (let i = 0; i < 3; i++) ids.push(await finished());
    const before = await Promise.all(ids.map((id) => getStatus(bench.deps, id)));
    const open = await created(1, -60);
    await first.stop();

    bench.aggregator({ ...bench.config, keepFinishedBatches: 1 });
    await bench.ended(open);
    const kept = () => bench.deps.redis.zrange(redisKeys.batches(), '0', '-1');
    await bench.until(async () => ((await kept()).length === 1 ? true : undefined));
    expect(await Promise.all(ids.map((id) => getStatus(bench.deps, id)))).toEqual(before);
    // Not read back and dropped again in each pass.
    await idle(2_500);
    const reads = async () => (await file.s3.faults.state()).requests['GetObject'] ?? 0;
    const now = await reads();
    await idle(2_500);
    expect(await reads()).toBe(now);
    expect(await listBatches(bench.deps)).toHaveLength(1);
    expect(await listBatches(bench.deps, { all: true })).toHaveLength(4);
  });

  test('... and after the days that are kept, also when Redis was emptied', async () => {
    answering();
    const first = bench.aggregator();
    const id = await finished();
    await first.stop();
    await bench.deps.redis.flushall();
    bench.aggregator({ ...bench.config, keepFinishedDays: 0 });
    await idle(2_500);
    expect(await bench.deps.redis.exists(redisKeys.batch(id))).toBe(0);
    expect((await getStatus(bench.deps, id)).status).toBe('completed');
  });

  test('a batch that a lifecycle rule took from S3 leaves Redis too', async () => {
    answering();
    bench.aggregator();
    const id = await finished();
    for (const key of await keysOf(id)) await bench.deps.store.delete(key);
    await bench.until(async () =>
      (await bench.deps.redis.exists(redisKeys.batch(id))) === 0 ? true : undefined,
    );
  });
});

test('a pass over batches that need nothing asks S3 for one listing, not for each of them', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push(await created(2));
  const lists = async () => (await file.s3.faults.state()).requests['ListObjectsV2'] ?? 0;
  const start = await lists();
  bench.aggregator();
  // The first pass looks into each.
  await bench.until(async () => ((await lists()) >= start + 6 ? true : undefined));
  await bench.until(async () =>
    (await bench.deps.redis.exists(redisKeys.reconciler())) === 0 ? true : undefined,
  );
  const before = await lists();
  // Two or three passes; each batch is looked into again after five at the earliest.
  await idle(2_200);
  expect((await lists()) - before).toBeLessThanOrEqual(3);
  for (const id of ids) expect((await getStatus(bench.deps, id)).status).toBe('in_progress');
});
