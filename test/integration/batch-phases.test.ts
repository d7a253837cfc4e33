/** A batch that is cancelled, or expires, with no cohort alive: whatever phase its items are in, it ends, and no answer is lost. */
import { Worker, type Job } from 'bullmq';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { cancelBatch } from '../../src/batch/cancel.js';
import { createBatch } from '../../src/batch/create.js';
import { unixNow } from '../../src/batch/flags.js';
import { getStatus } from '../../src/batch/status.js';
import type { ItemJob, ItemResult, WorkItem } from '../../src/contracts/work-item.js';
import { QUEUE_PREFIX, QUEUES } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { makeBatch, makeResult, newId, useBench, type Bench } from './batch-support.js';

const file = useBench();
let bench: Bench;
beforeEach(() => {
  ({ bench } = file);
});

/** Claims one item by hand, and does with it what a cohort did before it died; it never comes back. */
async function claim<T>(
  item: number,
  use: (job: Job<ItemJob, ItemResult>, token: string) => Promise<T>,
): Promise<T> {
  const connection = createRedis(bench.config.redisUrl, 'bullmq');
  const cohort = new Worker<ItemJob, ItemResult>(QUEUES.documents, null, {
    connection,
    prefix: QUEUE_PREFIX,
    lockDuration: bench.config.timings.lock,
    stalledInterval: bench.config.timings.stalled,
  });
  try {
    const job = await cohort.getNextJob('a cohort');
    expect(job?.data.item).toBe(item);
    return await use(job, 'a cohort');
  } finally {
    await cohort.close(true);
    connection.disconnect();
  }
}
const answer = (work: WorkItem) => (job: Job<ItemJob, ItemResult>, token: string) =>
  job.moveToCompleted(makeResult(work), token, false);

/** What is done to item 1 (2 requests) before the end comes; item 0 (1 request) is answered and in S3. */
const phases: Record<string, { begin: (id: string, work: WorkItem) => Promise<unknown>; answered: number }> =
  {
    'before it was enqueued': { begin: () => bench.deps.redis.flushall(), answered: 1 },
    'while it waits': { begin: () => Promise.resolve(), answered: 1 },
    'claimed by a cohort that died': { begin: () => claim(1, () => Promise.resolve()), answered: 1 },
    'given back after a fault': {
      begin: () => claim(1, (job, token) => job.moveToDelayed(Date.now() + 3_600_000, token)),
      answered: 1,
    },
    'answered but not committed': { begin: (_id, work) => claim(1, answer(work)), answered: 3 },
    'while it is committed': {
      begin: async (id, work) => {
        const latch = await file.s3.faults.add({
          operation: 'PutObject',
          key: `${id}/outcomes/`,
          action: { kind: 'delay', ms: 1_000 },
        });
        await claim(1, answer(work));
        bench.aggregator();
        await bench.until(async () => ((await file.s3.faults.hits(latch)) === 1 ? true : undefined));
      },
      answered: 3,
    },
    'while its files are written': {
      begin: async (id, work) => {
        const latch = await file.s3.faults.add({
          operation: 'PutObject',
          key: `${id}/output.jsonl`,
          action: { kind: 'delay', ms: 1_000 },
        });
        await claim(1, answer(work));
        bench.aggregator();
        await bench.until(async () => ((await file.s3.faults.hits(latch)) === 1 ? true : undefined));
        expect((await getStatus(bench.deps, id)).status).toBe('finalizing');
      },
      answered: 3,
    },
  };

/** One request in S3, two more for the phase. */
async function begun(expiresAt: number | null): Promise<{ id: string; items: WorkItem[] }> {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 2], expiresAt });
  await createBatch(bench.deps, manifest, items);
  const { stop } = bench.aggregator();
  await claim(0, answer(items[0]!));
  await bench.until(async () =>
    (await getStatus(bench.deps, id)).request_counts.answered === 1 ? true : undefined,
  );
  await stop();
  return { id, items };
}

async function expectEnd(id: string, end: 'cancelled' | 'expired', answered: number): Promise<void> {
  bench.aggregator();
  const status = await bench.until(
    async () => {
      const now = await getStatus(bench.deps, id);
      return now.completed_at === null ? undefined : now;
    },
    20_000,
    async () => JSON.stringify(await getStatus(bench.deps, id)),
  );
  const cut = 3 - answered;
  expect(status.status).toBe(cut === 0 ? 'completed' : end);
  expect(status.request_counts).toMatchObject({ total: 3, answered, [end]: cut, failed: 0, pending: 0 });
  const { output, error } = await bench.files(id);
  expect(output.map(({ ordinal }) => ordinal)).toEqual([0, 1, 2].slice(0, answered));
  expect(error.map(({ ordinal, status, error }) => [ordinal, status, error?.code])).toEqual(
    [1, 2].slice(0, cut).map((ordinal) => [ordinal, end, end.toUpperCase()]),
  );
  await bench.until(async () => ((await bench.jobKeys(id)).length === 0 ? true : undefined));
}

describe('cancelled', () => {
  test.each(Object.entries(phases))('%s', async (_name, { begin, answered }) => {
    const { id, items } = await begun(null);
    await begin(id, items[1]!);
    expect((await cancelBatch(bench.deps, id)).cancel_requested_at).not.toBeNull();
    await expectEnd(id, 'cancelled', answered);
  });

  test('after its end: nothing to cancel, and it says so', async () => {
    const { id, items } = await begun(null);
    await claim(1, answer(items[1]!));
    await expectEnd(id, 'cancelled', 3);
    await expect(cancelBatch(bench.deps, id)).rejects.toMatchObject({
      code: 'BATCH_FINISHED',
      message: expect.stringContaining(
        `batch ${id} is completed already, there is nothing to cancel`,
      ) as string,
    });
  });
});

describe('expired', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test.each(Object.entries(phases))('%s', async (_name, { begin, answered }) => {
    const { id, items } = await begun(unixNow() + 300);
    await begin(id, items[1]!);
    // Five minutes later by Redis's clock, which is the one that counts, for the aggregators of this process.
    vi.spyOn(Redis.prototype, 'time').mockImplementation(() => Promise.resolve([unixNow() + 301, 0]));
    await expectEnd(id, 'expired', answered);
  });
});
