/**
 * Real cohorts for tests: rank processes of the built command, a supervisor that restarts all of a cohort
 * when one of them ends, and batches with real documents in the store. Needs `make build`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { queueOptions } from '../../src/batch/queues.js';
import type { Lane, Manifest, ManifestHeader, ModelDigests } from '../../src/contracts/manifest.js';
import type { RunOptions } from '../../src/contracts/request.js';
import { itemResult, type ItemJob, type ItemResult, type WorkItem } from '../../src/contracts/work-item.js';
import { loadConfig, toEnvironment, type Config, type Settings } from '../../src/platform/config.js';
import { cohortKeys, jobIds, objectKeys, QUEUES } from '../../src/platform/keys.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { createRedis } from '../../src/platform/redis.js';
import { modelDigests } from '../../src/text/model-digests.js';
import { watch } from '../support/leaks.js';
import {
  endProcess,
  startRedis,
  startS3,
  tempDir,
  trackLeaks,
  type RedisService,
  type S3Service,
} from '../support/services.js';
import { writeRandomModel } from './random-model.js';

const command = resolve('bin/longhaul.js');

/** Polls until the value is there; the last error or a plain sentence otherwise. */
export async function until<T>(
  what: string,
  ms: number,
  probe: () => Promise<T | undefined | false>,
): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(25);
  }
}

export interface CohortOptions {
  redis: Pick<RedisService, 'url'>;
  s3: Pick<S3Service, 'settings'>;
  modelDir: string;
  ranks: number;
  cohort?: string;
  settings?: Partial<Settings>;
  settingsOf?: (rank: number) => Partial<Settings>;
  /** Further variables of the ranks' environment. */
  environment?: Record<string, string>;
}

/** Services and a model for a test file. */
export async function openServices(
  layers: number,
  s3Options: Parameters<typeof startS3>[0] = {},
): Promise<Services> {
  const modelDir = writeRandomModel(await tempDir('longhaul-cohort-'), layers);
  const [redis, s3] = await Promise.all([startRedis(), startS3(s3Options)]);
  return {
    redis,
    s3,
    modelDir,
    async close() {
      await Promise.all([redis.stop(), s3.stop()]);
      rmSync(modelDir, { recursive: true, force: true });
    },
  };
}

export interface Services extends BenchServices {
  redis: RedisService;
  s3: S3Service;
  close(): Promise<void>;
}

/** Where a bench finds its services. */
export interface BenchServices {
  redis: Pick<RedisService, 'url'>;
  s3: Pick<S3Service, 'settings'>;
  modelDir: string;
}

interface Seat {
  rank: number;
  child: ChildProcess;
  log: string[];
}

/** All ranks of one cohort, and their supervisor: when one ends, all are ended and started anew. */
export class TestCohort {
  readonly seats: Seat[] = [];
  /** How often all ranks were started. */
  starts = 0;
  readonly exits: { rank: number; code: number | null; signal: NodeJS.Signals | null }[] = [];
  private stopping = false;
  private supervising: Promise<void> = Promise.resolve();
  private readonly history: string[] = [];

  constructor(private readonly options: CohortOptions) {}

  start(): this {
    this.supervising = this.supervise();
    return this;
  }

  seat(rank: number): Seat {
    const seat = this.seats[rank];
    if (seat === undefined) throw new Error(`no rank ${rank}`);
    return seat;
  }

  kill(rank: number, signal: NodeJS.Signals = 'SIGKILL'): void {
    this.seat(rank).child.kill(signal);
  }

  /** Exit codes by rank of the last start, when all have ended. */
  codes(): (number | null)[] {
    return this.seats.map(({ child }) => child.exitCode);
  }

  /** The pids of ranks that live. */
  pids(): number[] {
    return this.seats.filter(({ child }) => lives(child)).map(({ child }) => child.pid ?? -1);
  }

  log(): string {
    return [...this.history, ...this.seats.map(({ rank, log }) => `--- rank ${rank}\n${log.join('')}`)].join(
      '\n',
    );
  }

  /** SIGTERM to all, and waits until they are gone. */
  async stop(graceMs = 15_000): Promise<void> {
    this.stopping = true;
    await Promise.all(this.seats.map(({ child }) => endProcess(child, 'SIGTERM', graceMs)));
    await this.supervising;
  }

  private async supervise(): Promise<void> {
    while (!this.stopping) {
      this.starts++;
      const { ranks } = this.options;
      this.seats.splice(
        0,
        this.seats.length,
        ...Array.from({ length: ranks }, (_, rank) => this.spawn(rank)),
      );
      await Promise.race(this.seats.map(({ child }) => once(child, 'exit')));
      // They notice by themselves; this is the supervisor's patience.
      if (!this.stopping) await Promise.race([this.allGone(), sleep(10_000)]);
      if (!this.stopping) await Promise.all(this.seats.map(({ child }) => endProcess(child, 'SIGKILL')));
      await this.allGone();
      this.history.push(
        `=== start ${this.starts}`,
        ...this.seats.map((s) => `--- rank ${s.rank}\n${s.log.join('')}`),
      );
    }
  }

  private async allGone(): Promise<void> {
    await Promise.all(this.seats.filter(({ child }) => lives(child)).map(({ child }) => once(child, 'exit')));
  }

  private spawn(rank: number): Seat {
    const seat = spawnRank(this.options, rank);
    seat.child.once('exit', (code, signal) => this.exits.push({ rank, code, signal }));
    return seat;
  }
}

function spawnRank(
  { redis, s3, modelDir, ranks, cohort, settings, settingsOf, environment: more }: CohortOptions,
  rank: number,
): Seat {
  const environment = toEnvironment({
    redisUrl: redis.url,
    profile: 'fast',
    logLevel: 'debug',
    backend: 'cpu',
    modelDir,
    ...s3.settings,
    ...settings,
    ...settingsOf?.(rank),
  });
  const flags = ['worker', '--rank', String(rank), '--ranks', String(ranks)];
  if (cohort !== undefined) flags.push('--cohort', cohort);
  const child = watch(
    spawn(process.execPath, [command, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment, ...more },
    }),
  );
  const log: string[] = [];
  child.stderr?.on('data', (text: Buffer) => log.push(text.toString()));
  return { rank, child, log };
}

function lives(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** The services of a test file and what it needs of them. */
export class Bench {
  readonly config: Config;
  readonly redis: Redis;
  readonly store: ObjectStore;
  readonly documents: Queue<ItemJob, ItemResult>;
  readonly outcomes: Queue<ItemJob>;
  /** Further variables of the environment of ranks started from now on. */
  environment: Record<string, string> = {};
  private readonly cohorts: TestCohort[] = [];
  private readonly seats: Seat[] = [];

  constructor(readonly services: BenchServices) {
    const flags = {
      redisUrl: services.redis.url,
      profile: 'fast',
      logLevel: 'silent',
      ...services.s3.settings,
    };
    this.config = loadConfig({ flags, environment: {}, directory: '/nonexistent' });
    // Tests take Redis away: their own calls are patient.
    this.redis = createRedis(services.redis.url, 'command', {
      maxRetriesPerRequest: null,
      commandTimeout: 60_000,
    });
    this.store = new ObjectStore(this.config);
    this.documents = new Queue(QUEUES.documents, queueOptions(this.redis));
    this.outcomes = new Queue(QUEUES.outcomes, queueOptions(this.redis));
    for (const queue of [this.documents, this.outcomes]) queue.on('error', () => undefined);
  }

  cohort(
    ranks: number,
    cohort = `c${ranks}`,
    settings: Partial<Settings> = {},
    settingsOf?: (rank: number) => Partial<Settings>,
  ): TestCohort {
    if (!existsSync(resolve('dist/cli/main.js'))) throw new Error('dist is missing; run `make build`');
    const made = new TestCohort({
      ...this.services,
      ranks,
      cohort,
      settings,
      settingsOf,
      environment: this.environment,
    });
    this.cohorts.push(made);
    return made.start();
  }

  /** One rank without a supervisor. */
  rank(
    rank: number,
    ranks: number,
    cohort = 'alone',
  ): Seat & { gone(): Promise<unknown>; end(): Promise<void> } {
    const seat = spawnRank({ ...this.services, ranks, cohort }, rank);
    const gone = once(seat.child, 'exit');
    this.seats.push(seat);
    return { ...seat, gone: () => gone, end: () => endProcess(seat.child) };
  }

  /** For afterEach. */
  async stopCohorts(): Promise<void> {
    await Promise.all(this.cohorts.splice(0).map((cohort) => cohort.stop()));
    await Promise.all(this.seats.splice(0).map(({ child }) => endProcess(child)));
  }

  async close(): Promise<void> {
    await this.stopCohorts();
    await Promise.all([this.documents.close(), this.outcomes.close()]);
    this.redis.disconnect();
    this.store.close();
  }

  state(cohort: string): Promise<Record<string, string>> {
    return this.redis.hgetall(cohortKeys(cohort).state);
  }

  ready(cohort: string, ms = 60_000): Promise<Record<string, string>> {
    return until(`cohort ${cohort} READY`, ms, async () => {
      const state = await this.state(cohort);
      return state['state'] === 'READY' && state;
    });
  }

  /** A batch of one work item per entry; questions are token ids. */
  async submit(
    options: RunOptions,
    items: { document: Uint32Array; questions: number[][]; maxTokens?: number }[],
    more: { expiresAt?: number; digests?: Partial<ModelDigests>; lanes?: Lane[] } = {},
  ): Promise<string> {
    const id = `batch-${randomBytes(6).toString('hex')}`;
    const digests = { ...(await modelDigests(this.services.modelDir)), ...more.digests };
    const expires_at = more.expiresAt ?? null;
    const workItems: WorkItem[] = [];
    const requests: Manifest['requests'] = [];
    for (const [index, { document, questions, maxTokens = 8 }] of items.entries()) {
      const bytes = Buffer.from(document.buffer, document.byteOffset, document.byteLength);
      const sha256 = createHash('sha256').update(digests.tokenizer).update(bytes).digest('hex');
      await this.store.create(objectKeys.document(sha256), bytes);
      const sampling = { max_tokens: maxTokens, temperature: 0, seed: 0 };
      const common = { ordinal: index, custom_id: `request ${index}`, ...sampling };
      const texts = questions.map((_query, i) => `question ${i}`);
      const place = { sha256, tokens: document.length };
      requests.push({ ...common, item: index, document: place, questions: texts, metadata: null });
      workItems.push({
        format: 'longhaul-item/1',
        batch_id: id,
        index,
        document: place,
        options,
        digests,
        expires_at,
        requests: [{ ...common, questions: questions.map((query, i) => ({ text: texts[i] ?? '', query })) }],
      });
    }
    const header: ManifestHeader = {
      format: 'longhaul-manifest/1',
      batch_id: id,
      created_at: 1_700_000_000,
      expires_at,
      input: 'test.jsonl',
      options,
      digests,
      totals: {
        requests: requests.length,
        questions: requests.reduce((sum, r) => sum + r.questions.length, 0),
        documents: new Set(requests.map((r) => r.document.sha256)).size,
        items: items.length,
      },
      retry_of: null,
      lanes: more.lanes,
    };
    await createBatch({ store: this.store, redis: this.redis }, { header, requests }, workItems);
    return id;
  }

  async job(batch: string, item = 0): Promise<Job<ItemJob, ItemResult>> {
    const job = await this.documents.getJob(jobIds.document(batch, item));
    if (job === undefined) throw new Error(`no job for item ${item} of ${batch}`);
    return job;
  }

  /** The answers of an item, as its parent gets them. */
  async answered(batch: string, item = 0, ms = 120_000): Promise<ItemResult> {
    const job = await until(`item ${item} of ${batch} answered`, ms, async () => {
      const found = await this.job(batch, item);
      if (found.failedReason) throw new Error(`the item failed: ${found.failedReason}`);
      return found.finishedOn !== undefined && found;
    });
    return itemResult.parse(job.returnvalue);
  }

  /** Why an item has no answers, as its parent gets it. */
  async failed(batch: string, item = 0, ms = 120_000): Promise<unknown> {
    const job = await until(`item ${item} of ${batch} failed`, ms, async () => {
      const found = await this.job(batch, item);
      return found.finishedOn !== undefined && found;
    });
    return JSON.parse(job.failedReason);
  }

  /** Waits until a cohort reports this phase of an item's run. */
  async reached(batch: string, phase: 'prefill' | 'decode', item = 0, ms = 60_000): Promise<void> {
    await until(`${phase} of item ${item} of ${batch}`, ms, async () => {
      const { progress } = await this.job(batch, item);
      return typeof progress === 'object' && 'phase' in progress && progress['phase'] === phase;
    });
  }
}

/** Services and model of a test file, and a bench of each of its tests on an empty Redis. */
export interface BenchOfFile {
  readonly services: Services;
  readonly bench: Bench;
}

/** Call once in a test file. `layers` is the model's depth: how long its work takes. */
export function useBench(layers: number): BenchOfFile {
  let services: Services;
  let bench: Bench;
  beforeAll(async () => {
    services = await openServices(layers);
  });
  afterAll(async () => {
    await services?.close();
  });
  trackLeaks();
  beforeEach(async () => {
    bench = new Bench(services);
    await bench.redis.flushall();
  });
  afterEach(async () => {
    await services.s3.faults.clear();
    await bench.close();
  });
  return {
    get services() {
      return services;
    },
    get bench() {
      return bench;
    },
  };
}

export const full = (ranks: number): RunOptions => ({
  method: 'full',
  ranks,
  anchor: null,
  passing: 0,
  ring_layout: null,
  blocks: 'even',
  select: null,
});

/** Token ids without special meaning, the same for the same seed. */
export function documentOf(tokens: number, seed = 1): Uint32Array {
  let state = seed;
  return Uint32Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return 10 + ((state >>> 8) % 200);
  });
}

export const texts = (result: ItemResult): string[] =>
  result.requests.flatMap((request) => request.answers.map((answer) => answer.text));
