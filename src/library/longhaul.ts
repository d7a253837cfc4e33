import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { z } from 'zod';
import { cancelBatch } from '../batch/cancel.js';
import { lanesSet } from '../batch/lanes.js';
import { readManifest } from '../batch/manifest.js';
import { readOutcomes } from '../batch/read-outcomes.js';
import { downloadResults, type Results } from '../batch/results.js';
import { retryBatch } from '../batch/retry.js';
import { getStatus, hasEnded } from '../batch/status.js';
import { requireSuccess } from '../batch/success.js';
import type { ManifestHeader } from '../contracts/manifest.js';
import type { Outcome } from '../contracts/outcome.js';
import type { requestLine, RunOptions } from '../contracts/request.js';
import type { BatchStatus } from '../contracts/status.js';
import { loadConfig, type Config, type Settings } from '../platform/config.js';
import { ObjectStore } from '../platform/object-store.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { submit, type Submitted } from '../producer/submit.js';
import { sourcePolicy } from '../text/source-policy.js';

/** What the command line takes from flags; `config` names a JSON file of them. */
export type LonghaulSettings = Partial<Settings> & { config?: string };

/** One request: a line of a request file, whose defaults may be left out. */
export type RequestInput = z.input<typeof requestLine>;

export interface SubmitOptions {
  /** Default `apb`. */
  method?: RunOptions['method'];
  /** Ranks that share a document; default: the setting. */
  ranks?: number;
  /** l_a in tokens; default: the model's share of the longest document's block. */
  anchor?: number;
  /** l_p in tokens, apb alone; default likewise. */
  passing?: number;
  /** How apb chooses what is passed on; default: by retaining heads where the model has them. */
  select?: NonNullable<RunOptions['select']>;
  /** The questions that an anchor of apb carries: all that fit half of it (default), one, or none. */
  anchorQuery?: NonNullable<RunOptions['anchor_query']>;
  /** Default `even`. */
  blocks?: RunOptions['blocks'];
  /** Ring alone; default `zigzag`. */
  ringLayout?: NonNullable<RunOptions['ring_layout']>;
  /** Another batch, even if the same one was submitted before. */
  isNew?: boolean;
  /** What still waits this long after the batch's creation ends as expired. */
  windowSeconds?: number;
  /** -100 to 100, higher runs first; default 0. */
  priority?: number;
  /** Whose it is: batches of one tenant share its turns at cohorts; default: the batch takes turns of its own. */
  tenant?: string;
  /** The same key with the same content is the same batch; with other content it is an error. */
  idempotencyKey?: string;
  /** Accepts documents that the model cannot hold; their requests end as errors. */
  allowTooLong?: boolean;
  signal?: AbortSignal;
}

export interface WaitOptions {
  /** Called with every status that was read. */
  onStatus?: (status: BatchStatus) => void;
  /** Milliseconds between two looks; default 500. */
  pollMs?: number;
  signal?: AbortSignal;
}

export interface RetryOptions {
  /** Which ends to take up; default: failed and expired. */
  only?: readonly ('failed' | 'expired' | 'cancelled')[];
  /** Default: as before. */
  ranks?: number;
  /** Default: as long as before. */
  windowSeconds?: number;
  priority?: number;
  /** Another batch, even if these requests were retried before. */
  isNew?: boolean;
  signal?: AbortSignal;
}

export interface Retried {
  id: string;
  /** False: the same requests had been retried in the same way before. */
  created: boolean;
  header: ManifestHeader;
}

/** A connection to the Redis and the S3 of one longhaul. Calls may run at the same time; `close` ends it. */
export class Longhaul {
  private constructor(
    private readonly config: Config,
    private readonly store: ObjectStore,
    private readonly redis: Redis,
  ) {}

  /**
   * Connects. What `settings` leaves out comes from where the command line takes it: `LONGHAUL_*` variables, the file
   * named by `config`, then `.longhaul/local.json`.
   * @throws ConfigError for a bad setting or a Redis that could lose jobs; InfrastructureError `REDIS_UNREACHABLE`.
   */
  static async open(settings: LonghaulSettings = {}): Promise<Longhaul> {
    const config = loadConfig({ flags: settings });
    const store = new ObjectStore(config);
    const redis = createRedis(config.redisUrl, 'command');
    const opened = new Longhaul(config, store, redis);
    try {
      await checkRedis(redis, config.redisUrl);
    } catch (error) {
      opened.close();
      throw error;
    }
    return opened;
  }

  /**
   * Checks all requests, stores their documents and enqueues them as one batch. The same requests, options and model
   * are the same batch, whose id is returned again. Needs the model's directory for its tokenizer, and no GPU.
   * @param requests the path of a request file (JSON lines), or the requests themselves; a document's `path` is then
   * taken from the working directory.
   * @throws InputError with each bad request's line (of requests in memory: 1 for the first) and field; then nothing was enqueued.
   */
  async submit(
    requests: string | Iterable<RequestInput> | AsyncIterable<RequestInput>,
    { signal, ...options }: SubmitOptions = {},
  ): Promise<Submitted> {
    if (typeof requests === 'string') return this.submitFile(requests, options, signal);
    const folder = await mkdtemp(join(tmpdir(), 'longhaul-requests-'));
    try {
      const file = join(folder, 'requests.jsonl');
      await pipeline(Readable.from(linesOf(requests)), createWriteStream(file), { signal });
      return await this.submitFile(file, options, signal);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  private submitFile(
    file: string,
    {
      method = 'apb',
      ranks = this.config.ranks,
      anchor,
      passing,
      select,
      anchorQuery,
      blocks,
      ringLayout,
      ...rest
    }: Omit<SubmitOptions, 'signal'>,
    signal: AbortSignal | undefined,
  ): Promise<Submitted> {
    const { modelDir, headsFile } = this.config;
    const options = { method, ranks, anchor, passing, select, anchorQuery, blocks, ringLayout };
    return submit(this.deps, {
      ...rest,
      lanes: lanesSet(this.config),
      file,
      policy: sourcePolicy(this.config),
      modelDir,
      headsFile,
      options,
      signal,
    });
  }

  /**
   * Where a batch stands.
   * @throws NotFoundError
   */
  status(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<BatchStatus> {
    return getStatus(this.deps, id, signal);
  }

  /**
   * Looks at a batch until it has ended; a batch may wait for days, so give a signal to stop earlier. The batch itself
   * goes on without us.
   * @throws NotFoundError; InfrastructureError when Redis or S3 does not answer; the signal's reason.
   */
  async wait(id: string, { onStatus, pollMs = 500, signal }: WaitOptions = {}): Promise<BatchStatus> {
    for (;;) {
      const status = await this.status(id, { signal });
      onStatus?.(status);
      if (hasEnded(status)) return status;
      await sleep(pollMs, undefined, { signal });
    }
  }

  /**
   * The outcomes of a finished batch, one for each request in input order, at most a window of them in memory. Each is
   * an object of its own in S3: for very many, `results` reads two large files instead.
   * @throws LonghaulError `NOT_FINISHED`; NotFoundError.
   */
  async *outcomes(id: string, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Outcome, void> {
    await requireSuccess(this.store, id, signal);
    const manifest = await readManifest(this.store, id, signal);
    yield* readOutcomes(this.store, manifest, [...manifest.requests.keys()], signal);
  }

  /**
   * Downloads `output.jsonl`, `error.jsonl` and `_SUCCESS` of a finished batch into a folder, checked against their sha256.
   * @throws LonghaulError `NOT_FINISHED`; NotFoundError; StoreError `SHA256`.
   */
  results(id: string, directory: string, { signal }: { signal?: AbortSignal } = {}): Promise<Results> {
    return downloadResults(this.deps, id, directory, signal);
  }

  /**
   * Ends what has no answer yet; answers made so far stay. Cancelling again changes nothing.
   * @throws NotFoundError; LonghaulError `BATCH_FINISHED`.
   */
  cancel(id: string, { signal }: { signal?: AbortSignal } = {}): Promise<BatchStatus> {
    return cancelBatch(this.deps, id, signal);
  }

  /**
   * A new batch of those requests of a finished one that have no answer, with their custom_ids.
   * @throws LonghaulError `NOT_FINISHED`, `NOTHING_TO_RETRY`, `DOCUMENT_GONE`; NotFoundError.
   */
  retry(id: string, { signal, ...options }: RetryOptions = {}): Promise<Retried> {
    return retryBatch(this.deps, id, options, signal);
  }

  /** Releases the connections; calls under way fail. */
  close(): void {
    this.redis.disconnect();
    this.store.close();
  }

  private get deps(): { store: ObjectStore; redis: Redis } {
    return { store: this.store, redis: this.redis };
  }
}

/** As a request file, from another folder than the one that paths are meant from. */
async function* linesOf(
  requests: Iterable<RequestInput> | AsyncIterable<RequestInput>,
): AsyncGenerator<string> {
  for await (const request of requests) {
    const { document } = request;
    const moved =
      typeof document === 'object' && 'path' in document
        ? { ...request, document: { ...document, path: resolve(document.path) } }
        : request;
    yield JSON.stringify(moved) + '\n';
  }
}
