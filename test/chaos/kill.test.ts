/**
 * Ranks killed at awkward moments. Whatever dies: the item is answered, with the answers of an undisturbed
 * run, its parent runs once, nothing is left behind, and all within the bound.
 */
import { Worker } from 'bullmq';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { jobIds, QUEUE_PREFIX, QUEUES } from '../../src/platform/keys.js';
import { createRedis } from '../../src/platform/redis.js';
import { documentOf, full, texts, until, useBench, type Bench, type TestCohort } from './cohort-support.js';

const file = useBench(160);
let bench: Bench;
/** Runs of parents, by job id, as an aggregator would see them. */
const parents = new Map<string, number>();
let aggregator: Worker;

beforeEach(() => {
  ({ bench } = file);
  parents.clear();
  aggregator = new Worker(
    QUEUES.outcomes,
    (job) => {
      parents.set(job.id ?? '', (parents.get(job.id ?? '') ?? 0) + 1);
      return Promise.resolve();
    },
    {
      connection: createRedis(file.services.redis.url, 'bullmq'),
      prefix: QUEUE_PREFIX,
      stalledInterval: bench.config.timings.stalled,
      lockDuration: bench.config.timings.lock,
    },
  );
});
afterEach(async () => {
  await aggregator.close();
  (aggregator.opts.connection as { disconnect(): void }).disconnect();
});

const question = [20, 31, 42, 53];
const item = { document: documentOf(2048, 5), questions: [question, [61, 62]], maxTokens: 60 };

/** Death noticed, ranks out and started anew, the lock run out, found stalled; then the run itself. */
function bound(undisturbedMs: number): number {
  const { heartbeatExpiry, abort, lock, stalled, join } = bench.config.timings;
  return heartbeatExpiry + abort + join + lock + 2 * stalled + 2 * undisturbedMs;
}

interface Undisturbed {
  answers: string[];
  ms: number;
}

async function undisturbed(ranks: number): Promise<Undisturbed> {
  const since = Date.now();
  const id = await bench.submit(full(ranks), [item]);
  const answers = texts(await bench.answered(id));
  return { answers, ms: Date.now() - since };
}

async function answeredDespite(ranks: number, cohort: TestCohort, disturb: (id: string) => Promise<void>) {
  const { answers, ms } = await undisturbed(ranks);
  const before = cohort.pids();
  const id = await bench.submit(full(ranks), [item]);
  await disturb(id);
  const since = Date.now();
  const result = await bench.answered(id, 0, bound(ms)).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${cohort.log()}`);
  });
  expect(Date.now() - since).toBeLessThan(bound(ms));
  expect(texts(result)).toEqual(answers);
  expect(result.execution.epoch).toBe(2);
  const parent = jobIds.outcome(id, 0);
  await until('the parent run', 5000, () => Promise.resolve(parents.has(parent)));
  expect(parents.get(parent)).toBe(1);
  expect((await bench.job(id)).attemptsMade).toBe(1); // the completion itself: nothing was burned
  const stillThere = before.filter((pid) => exists(pid));
  expect(stillThere).toEqual([]);
  expect(cohort.starts).toBe(2);
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe('SIGKILL', () => {
  it.each([
    { whom: 'a follower', rank: 1, ranks: 2, phase: 'prefill' as const },
    { whom: 'the leader', rank: 0, ranks: 2, phase: 'prefill' as const },
    { whom: 'a follower', rank: 1, ranks: 2, phase: 'decode' as const },
    { whom: 'the leader', rank: 0, ranks: 2, phase: 'decode' as const },
    { whom: 'the last of four ranks', rank: 3, ranks: 4, phase: 'prefill' as const },
    { whom: 'a rank alone', rank: 0, ranks: 1, phase: 'prefill' as const },
  ])('of $whom in $phase ($ranks ranks)', async ({ rank, ranks, phase }) => {
    const cohort = bench.cohort(ranks);
    await bench.ready(`c${ranks}`);
    await answeredDespite(ranks, cohort, async (id) => {
      await bench.reached(id, phase);
      cohort.kill(rank);
    });
  });
});
