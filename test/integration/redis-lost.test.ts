/**
 * Redis knows less than S3, because a submit was killed between two of its writes. The reconciler makes
 * it good: every request has exactly one outcome, and the counts add up.
 */
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withQueues } from '../../src/batch/queues.js';
import { getStatus } from '../../src/batch/status.js';
import type { FaultRuleInput } from '../../src/local/s3/faults.js';
import { workItem, type ItemJob } from '../../src/contracts/work-item.js';
import type { Config } from '../../src/platform/config.js';
import { objectKeys, redisKeys } from '../../src/platform/keys.js';
import { startRedisLatch } from '../support/redis-latch.js';
import { endProcess, tempDir } from '../support/services.js';
import { Bench, makeResult, runCli, spawnCli, testConfig, useBench } from './batch-support.js';

const file = useBench();
let bench: Bench;
let directory: string;
let run = 0;
beforeEach(async () => {
  directory = await tempDir('longhaul-lost-');
  const modelDir = join(directory, 'model');
  await cp(fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url)), modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
  // A prefix for each test: what lies below it is what the test wrote.
  bench = new Bench(testConfig(file.redis, file.s3, { modelDir, s3Prefix: `lost-${run++}` }));
});
afterEach(async () => {
  await bench.release();
  await rm(directory, { recursive: true });
});

/** As a cohort would, from the work item in S3. */
async function answer({ batch_id, item }: ItemJob) {
  const bytes = await bench.deps.store.get(objectKeys.item(batch_id, item));
  return makeResult(workItem.parse(JSON.parse(bytes.toString())));
}

async function batches(): Promise<string[]> {
  const ids: string[] = [];
  for await (const id of bench.deps.store.listFolders(objectKeys.batches())) ids.push(id);
  return ids;
}

/** What is enqueued: items that a cohort could claim. */
const enqueued = () =>
  withQueues(bench.deps.redis, ({ documents }) => documents.getJobCountByTypes('wait', 'prioritized'));

async function expectWhole(id: string, total: number): Promise<void> {
  const status = await bench.ended(id);
  expect(status.request_counts).toEqual({
    total,
    answered: total,
    failed: 0,
    cancelled: 0,
    expired: 0,
    pending: 0,
  });
  const { output, error } = await bench.files(id);
  expect(output.map(({ custom_id }) => custom_id)).toEqual(Array.from({ length: total }, (_, i) => `r${i}`));
  expect(error).toEqual([]);
  expect(await bench.outcomeKeys(id)).toHaveLength(total);
  await bench.until(async () => ((await bench.jobKeys(id)).length === 0 ? true : undefined));
}

async function writeRequests(count: number): Promise<string> {
  const path = join(directory, 'requests.jsonl');
  const lines = Array.from({ length: count }, (_, i) =>
    JSON.stringify({ custom_id: `r${i}`, document: `Document number ${i}.`, question: 'What is it?' }),
  );
  await writeFile(path, lines.join('\n') + '\n');
  return path;
}

/** A real submit of `count` requests that hangs at the rule's place and is killed there. */
async function killedSubmit(count: number, rule: FaultRuleInput, more: FaultRuleInput[] = []): Promise<void> {
  const path = await writeRequests(count);
  for (const other of more) await file.s3.faults.add(other);
  const latch = await file.s3.faults.add(rule);
  await killAt(spawnCli(bench.config, ['submit', path]), async () => (await file.s3.faults.hits(latch)) > 0);
  await file.s3.faults.clear();
}

async function killAt(child: ReturnType<typeof spawnCli>, there: () => Promise<boolean>): Promise<void> {
  let log = '';
  child.stderr?.on('data', (text: Buffer) => (log += text.toString()));
  try {
    await bench.until(
      async () => {
        if (child.exitCode !== null) throw new Error(`submit ended before it was killed:\n${log}`);
        return (await there()) ? true : undefined;
      },
      40_000,
      () => `submit to reach the place:\n${log}`,
    );
  } finally {
    await endProcess(child, 'SIGKILL');
  }
  expect(child.signalCode).toBe('SIGKILL');
}

const hang = { kind: 'delay' as const, ms: 600_000 };

describe('a submit killed', () => {
  test.each([
    [
      'when some of its work items are written',
      { operation: 'PutObject', key: '/items/', skip: 3, times: 1000, action: hang },
    ],
    [
      'when its work items are written, and its manifest is not',
      { operation: 'PutObject', key: '/manifest.jsonl', times: 1000, action: hang },
    ],
  ])('%s: there is no batch, and the next submit makes it', async (_where, rule) => {
    await killedSubmit(8, rule);
    bench.aggregator();
    bench.answering(answer);
    const [id = ''] = await batches();
    // A whole pass of the reconciler later.
    await bench.until(async () =>
      (await bench.deps.redis.exists(redisKeys.reconciler())) === 1 ? true : undefined,
    );
    await bench.until(async () =>
      (await bench.deps.redis.exists(redisKeys.reconciler())) === 0 ? true : undefined,
    );
    await expect(getStatus(bench.deps, id)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await bench.jobKeys(id)).toEqual([]);
    const again = await runCli(bench.config, ['submit', join(directory, 'requests.jsonl')]);
    expect(again.stdout.trim()).toBe(id);
    expect(again.stderr).toContain(`submitted ${id}`);
    await expectWhole(id, 8);
  });

  test('when its manifest is written, and Redis knows nothing', async () => {
    // The reply to the manifest is lost; looking what is there then hangs.
    const lost = { operation: 'PutObject', key: '/manifest.jsonl', action: { kind: 'reset-after' as const } };
    await killedSubmit(
      8,
      { operation: 'GetObject', key: '/manifest.jsonl', skip: 1, times: 1000, action: hang },
      [lost],
    );
    const [id = ''] = await batches();
    expect(await bench.deps.redis.exists(redisKeys.batch(id))).toBe(0);
    bench.aggregator();
    bench.answering(answer);
    await bench.until(async () => (await bench.deps.redis.exists(redisKeys.batch(id))) === 1 || undefined);
    await expectWhole(id, 8);
  });

  test('when Redis knows the batch, and none of its items is enqueued', async () => {
    await killedSubmit(8, { operation: 'GetObject', key: '/cancel.json', times: 1000, action: hang });
    const [id = ''] = await batches();
    expect((await getStatus(bench.deps, id)).status).toBe('validating');
    expect(await enqueued()).toBe(0);
    bench.aggregator();
    bench.answering(answer);
    await expectWhole(id, 8);
  });

  test('when a part of its items is enqueued', async () => {
    const latch = await startRedisLatch(file.redis.port, 1);
    try {
      const path = await writeRequests(260);
      let closed = false;
      void latch.closed.then(() => (closed = true));
      const through: Config = { ...bench.config, redisUrl: latch.url };
      await killAt(spawnCli(through, ['submit', path]), () => Promise.resolve(closed));
      const [id = ''] = await batches();
      expect(await enqueued()).toBe(250);
      bench.aggregator();
      bench.answering(answer);
      await expectWhole(id, 260);
    } finally {
      await latch.stop();
    }
  });
});
