/** Batches for tests of queue and aggregator: no documents, no engine, a tiny worker in place of a cohort. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { UnrecoverableError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import type { Manifest } from '../../src/contracts/manifest.js';
import type { RunOptions } from '../../src/contracts/request.js';
import type { ItemFailure, ItemJob, ItemResult, WorkItem } from '../../src/contracts/work-item.js';
import { runAggregator } from '../../src/aggregator/aggregator.js';
import type { BatchDeps } from '../../src/batch/queues.js';
import { getStatus } from '../../src/batch/status.js';
import type { Outcome } from '../../src/contracts/outcome.js';
import type { BatchStatus } from '../../src/contracts/status.js';
import { loadConfig, toEnvironment, type Config, type SettingName } from '../../src/platform/config.js';
import { createLogger } from '../../src/platform/logger.js';
import { QUEUE_PREFIX, QUEUES } from '../../src/platform/keys.js';
import { objectKeys } from '../../src/platform/keys.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { createRedis } from '../../src/platform/redis.js';
import { Releasers } from '../../src/platform/shutdown.js';
import { compiled } from '../support/compiled.js';
import { startRedis, startS3, trackLeaks, type RedisService, type S3Service } from '../support/services.js';

const hex = (text: string) => createHash('sha256').update(text).digest('hex');
const digests = { model: hex('model'), tokenizer: hex('tokenizer'), heads: null };
const options: RunOptions = {
  method: 'apb',
  ranks: 4,
  anchor: 16,
  passing: 8,
  ring_layout: null,
  blocks: 'even',
  select: 'heads',
};

export interface BatchShape {
  /** Requests of each work item. */
  items: number[];
  expiresAt?: number | null;
}

export function makeBatch(
  id: string,
  { items: sizes, expiresAt = null }: BatchShape,
): { manifest: Manifest; items: WorkItem[] } {
  const documents = sizes.map((_size, index) => ({ sha256: hex(`${id} ${index}`), tokens: 1000 + index }));
  const items: WorkItem[] = [];
  const requests: Manifest['requests'] = [];
  sizes.forEach((size, index) => {
    const document = documents[index] ?? { sha256: hex(''), tokens: 1 };
    const mine = Array.from({ length: size }, (_, i) => {
      const ordinal = requests.length;
      const custom_id = `request ${ordinal}`;
      const questions = [`question ${i} about document ${index}?`];
      const sampling = { max_tokens: 8, temperature: 0, seed: 0 };
      requests.push({ ordinal, custom_id, item: index, document, questions, ...sampling, metadata: null });
      return { ordinal, custom_id, ...sampling, questions: [{ text: questions[0] ?? '', query: [1, 2, 3] }] };
    });
    items.push({
      format: 'longhaul-item/1',
      batch_id: id,
      index,
      document,
      options,
      digests,
      expires_at: expiresAt,
      requests: mine,
    });
  });
  const header = {
    format: 'longhaul-manifest/1' as const,
    batch_id: id,
    created_at: 1_700_000_000,
    expires_at: expiresAt,
    input: 'test.jsonl',
    options,
    digests,
    totals: {
      requests: requests.length,
      questions: requests.length,
      documents: sizes.length,
      items: sizes.length,
    },
    retry_of: null,
  };
  return { manifest: { header, requests }, items };
}

/** What a cohort would return for an item of `makeBatch`. */
export function makeResult({ requests, document }: WorkItem, text = 'answer'): ItemResult {
  return {
    execution: {
      cohort: 'test',
      generation: 1,
      epoch: 1,
      method: 'apb',
      ring_layout: null,
      ranks: 4,
      blocks: [250, 250, 250, 250],
      anchor: 16,
      passing: 8,
      select: 'heads',
      backend: 'cpu',
      version: '0',
      prefill_seconds: 0.5,
      decode_seconds: 0.25,
    },
    requests: requests.map(({ ordinal, questions }) => ({
      ordinal,
      answers: questions.map((q) => ({
        question: q.text,
        text: `${text} ${ordinal}`,
        tokens: 2,
        finish: 'stop',
      })),
      usage: { document_tokens: document.tokens, query_tokens: 3, answer_tokens: 2 },
    })),
  };
}

export function testConfig(
  redis: Pick<RedisService, 'url'>,
  s3: Pick<S3Service, 'settings'>,
  more: Partial<Record<SettingName, unknown>> = {},
): Config {
  const flags = { redisUrl: redis.url, profile: 'fast', logLevel: 'silent', ...s3.settings, ...more };
  return loadConfig({ flags, environment: {}, directory: '/nonexistent' });
}

export const failItem = (failure: ItemFailure): never => {
  throw new UnrecoverableError(JSON.stringify(failure));
};

/** A cohort that computes nothing. The caller closes it. */
export function startAnswering(
  connection: Redis,
  config: Config,
  answer: (job: ItemJob) => Promise<ItemResult> | ItemResult,
  concurrency = 8,
): Worker<ItemJob, ItemResult> {
  const { lock, stalled } = config.timings;
  const worker = new Worker<ItemJob, ItemResult>(QUEUES.documents, async (job) => answer(job.data), {
    connection,
    prefix: QUEUE_PREFIX,
    concurrency,
    lockDuration: lock,
    stalledInterval: stalled,
    maxStalledCount: 1000,
  });
  worker.on('error', () => undefined);
  return worker;
}

/** One test's clients and workers over services of the file; `release` ends all of them. */
export class Bench {
  readonly deps: BatchDeps;
  private readonly releasers = new Releasers();

  constructor(readonly config: Config) {
    const redis = createRedis(config.redisUrl, 'command');
    this.releasers.add(() => redis.disconnect());
    const store = new ObjectStore(config);
    this.releasers.add(() => store.close());
    this.deps = { redis, store };
  }

  /** Runs an aggregator in this process until the test ends or `stop` is called. */
  aggregator(config: Config = this.config): { stop: () => Promise<void> } {
    const ended = new AbortController();
    const run = runAggregator(config, createLogger('aggregator', config), ended.signal);
    const stop = async () => {
      ended.abort();
      await run;
    };
    // A refusal must not be unhandled before the test gets to it.
    run.catch(() => undefined);
    this.releasers.add(stop);
    return { stop };
  }

  answering(
    answer: Parameters<typeof startAnswering>[2],
    concurrency?: number,
  ): { stop: () => Promise<void> } {
    const connection = createRedis(this.config.redisUrl, 'bullmq');
    const worker = startAnswering(connection, this.config, answer, concurrency);
    const stop = async () => {
      await worker.close();
      connection.disconnect();
    };
    this.releasers.add(stop);
    return { stop };
  }

  /** Waits until the batch has ended; on the way its counts must add up at any moment. */
  async ended(id: string, timeoutMs = 40_000): Promise<BatchStatus> {
    return this.until(
      async () => {
        const status = await getStatus(this.deps, id);
        checkCounts(status);
        return status.completed_at === null ? undefined : status;
      },
      timeoutMs,
      async () => JSON.stringify(await getStatus(this.deps, id)),
    );
  }

  async until<T>(
    probe: () => Promise<T | undefined>,
    timeoutMs = 20_000,
    describe: () => Promise<string> | string = () => 'the condition',
  ): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = await probe();
      if (found !== undefined) return found;
      if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${await describe()}`);
      await sleep(50);
    }
  }

  /** The lines of both files of a finished batch. */
  async files(id: string): Promise<{ output: Outcome[]; error: Outcome[] }> {
    const lines = async (key: string) =>
      (await this.deps.store.get(key))
        .toString('utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Outcome);
    return { output: await lines(objectKeys.output(id)), error: await lines(objectKeys.error(id)) };
  }

  async outcomeKeys(id: string): Promise<string[]> {
    const keys: string[] = [];
    for await (const key of this.deps.store.list(objectKeys.outcomes(id))) keys.push(key);
    return keys;
  }

  /** What BullMQ still holds in its queues. */
  async jobKeys(id: string): Promise<string[]> {
    const keys = await this.deps.redis.keys(`${QUEUE_PREFIX}:*:${id}-*`);
    return keys.sort();
  }

  async release(): Promise<void> {
    await this.releasers.run();
  }
}

/** Services of a test file, and a bench of each of its tests on an empty Redis. */
export interface BenchOfFile {
  readonly redis: RedisService;
  readonly s3: S3Service;
  readonly bench: Bench;
}

/** Call once in a test file. S3 keeps what earlier tests wrote, so each test takes ids of its own: `newId`. */
export function useBench(): BenchOfFile {
  let redis: RedisService;
  let s3: S3Service;
  let bench: Bench;
  beforeAll(async () => {
    [redis, s3] = await Promise.all([startRedis(), startS3()]);
  });
  afterAll(async () => {
    await redis?.stop();
    await s3?.stop();
  });
  trackLeaks();
  beforeEach(async () => {
    bench = new Bench(testConfig(redis, s3));
    await bench.deps.redis.flushall();
  });
  afterEach(async () => {
    await s3.faults.clear();
    await bench.release();
  });
  return {
    get redis() {
      return redis;
    },
    get s3() {
      return s3;
    },
    get bench() {
      return bench;
    },
  };
}

export const newId = (): string => `b${randomBytes(6).toString('hex')}`;

/** Every request has ended exactly once or is pending. */
export function checkCounts({ id, request_counts: counts }: BatchStatus): void {
  const sum = counts.answered + counts.failed + counts.cancelled + counts.expired + counts.pending;
  if (sum !== counts.total || counts.pending < 0) {
    throw new Error(`counts of ${id} do not add up: ${JSON.stringify(counts)}`);
  }
}

/** The command line as a process. */
export function spawnCli(
  config: Config,
  args: string[],
  environment: Record<string, string> = {},
): ChildProcess {
  const script = compiled('src/cli/main.ts');
  const { timings: _timings, ...settings } = config;
  const env = { PATH: process.env['PATH'], HOME: '/nonexistent', ...toEnvironment(settings), ...environment };
  return spawn(process.execPath, [script, ...args], {
    env,
    cwd: tmpdir(), // no .longhaul/local.json of ours there
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs a command to its end. */
export async function runCli(
  config: Config,
  args: string[],
  environment?: Record<string, string>,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawnCli(config, args, environment);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (text: Buffer) => (stdout += text.toString()));
  child.stderr?.on('data', (text: Buffer) => (stderr += text.toString()));
  const code = await new Promise<number | null>((done) => child.once('close', done));
  return { code, stdout, stderr };
}
