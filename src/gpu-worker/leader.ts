/** The leader's side of BullMQ: claims one item at a time while the gate is open. */
import { UnrecoverableError, WaitingError, Worker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { countUncommitted } from '../batch/uncommitted.js';
import {
  itemJob,
  type ItemFailure,
  type ItemJob,
  type ItemProgress,
  type ItemResult,
} from '../contracts/work-item.js';
import type { Config } from '../platform/config.js';
import { documentsQueue, QUEUE_PREFIX } from '../platform/keys.js';
import type { Logger } from '../platform/logger.js';
import { reach } from '../platform/test-points.js';
import { queueTelemetry, tracePast } from '../platform/tracing.js';
import { Claim, type ClaimDeps } from './claim.js';
import { faultBackoff } from './counters.js';
import { Gate } from './gate.js';
import type { Failure, Ticket } from './messages.js';
import type { Input, Settlement } from './protocol-types.js';
import { stepsOfRun } from './trace-run.js';
import { pause } from './wait.js';

export interface LeaderOptions extends Pick<ClaimDeps, 'work' | 'buildResult' | 'generation'> {
  config: Config;
  /** For commands with a deadline. */
  redis: Redis;
  /** For BullMQ, which waits for Redis as long as it takes. */
  bullmq: Redis;
  logger: Logger;
  dispatch: (input: Input) => void;
}

/** Out of the way: our own counters decide (counters.ts). */
const NEVER = 1000;

export class Leader {
  private readonly gate: Gate;
  private readonly worker: Worker<ItemJob, ItemResult>;
  private readonly closing = new AbortController();
  private claim: Claim | null = null;
  private faults = 0;
  private background: Promise<unknown> = Promise.resolve();
  private closed: Promise<void> | null = null;
  private draining = false;

  constructor(private readonly options: LeaderOptions) {
    const { bullmq, logger } = options;
    const { timings } = options.config;
    this.gate = new Gate((open) => {
      this.follow(open);
    });
    this.worker = new Worker<ItemJob, ItemResult>(
      documentsQueue(options.config.lane),
      // BullMQ passes the signal, and counts the worker as cancellable, only with three plain parameters.
      (job, token, _signal) => this.process(job, token ?? ''),
      {
        connection: bullmq,
        prefix: QUEUE_PREFIX,
        name: options.config.cohort,
        concurrency: 1,
        autorun: false,
        skipLockRenewal: true,
        lockDuration: timings.lock,
        stalledInterval: timings.stalled,
        maxStalledCount: NEVER,
        maxStartedAttempts: NEVER,
        drainDelay: 1,
        runRetryDelay: timings.heartbeat,
        ...queueTelemetry(),
      },
    );
    this.worker.on('completed', () => {
      reach('completed');
    });
    this.worker.on('error', (error) => {
      logger.warn({ err: error }, 'worker');
    });
  }

  start(): void {
    this.background = this.watchUncommitted();
  }

  claims(open: boolean): void {
    this.gate.set('cohort', !open);
  }

  settle(ticket: Ticket, settlement: Settlement): void {
    this.claim?.settle(ticket, settlement);
  }

  async confirm(ticket: Ticket): Promise<void> {
    const verdict = (await this.claim?.confirm(ticket)) ?? { go: false, runMs: 0 };
    this.options.dispatch({ type: 'confirmed', run: ticket.run, ...verdict });
  }

  progress(progress: Pick<ItemProgress, 'phase' | 'done' | 'total'>): void {
    this.claim?.progress(progress);
  }

  /** No new claims; the item in hand may finish within the grace, then it is given back. */
  drain(): void {
    if (this.draining) return;
    this.draining = true;
    this.gate.set('drain', true);
    const { drain } = this.options.config.timings;
    void pause(drain, this.closing.signal).then(
      () => this.claim?.stop('drain'),
      () => undefined,
    );
  }

  /** Waits for the item in hand; then BullMQ's connections are closed. */
  close(): Promise<void> {
    this.closed ??= (async () => {
      this.gate.set('drain', true);
      await this.worker.close();
      this.closing.abort();
      await this.background;
    })();
    return this.closed;
  }

  private follow(open: boolean): void {
    this.options.logger.debug({ closedBy: this.gate.closedBy }, open ? 'claiming' : 'not claiming');
    // `true`: do not wait for the item in hand. Without the pause BullMQ would claim the next one
    // in the same script that ends this one.
    (open ? this.worker.resume() : this.worker.pause(true)).catch((error: unknown) => {
      this.options.logger.error({ err: error }, 'worker not switched');
    });
  }

  private async process(job: Job<ItemJob, ItemResult>, token: string): Promise<ItemResult> {
    const { config, redis, logger, dispatch, generation, work, buildResult } = this.options;
    if (this.gate.isOpen) await this.checkUncommitted();
    // A paused worker that was waiting in a blocking read still claims once.
    if (!this.gate.isOpen) {
      const { batch_id: batch, item } = job.data;
      logger.info(
        { batch, item, epoch: job.attemptsStarted, closedBy: this.gate.closedBy },
        'item given back',
      );
      await job.moveToWait(token).catch((error: unknown) => {
        logger.warn({ err: error, batch, item }, 'item not given back; it will stall');
      });
      throw new WaitingError();
    }
    checkData(job);
    const log = logger.child({ batch: job.data.batch_id, item: job.data.item, epoch: job.attemptsStarted });
    const claim = new Claim(
      {
        redis,
        timings: config.timings,
        logger: log,
        cohort: config.cohort,
        generation,
        work,
        buildResult,
        offer: (batch, item, epoch) => {
          dispatch({ type: 'claimed', batch, item, epoch });
        },
        requestStop: (run) => {
          dispatch({ type: 'stop', run });
        },
        leaseLost: (error) => {
          dispatch({ type: 'fault', cause: { code: error.code, message: error.message, rank: 0 } });
        },
        backOff: (failure) => {
          this.backOff(failure);
        },
        draining: () => this.draining,
      },
      job,
      token,
    );
    this.claim = claim;
    try {
      log.info('claimed');
      const result = await claim.process();
      this.faults = 0;
      log.info({ execution: result.execution }, 'answered');
      tracePast(() => stepsOfRun(config.modelDir, result));
      await this.checkUncommitted();
      reach('complete');
      return result;
    } finally {
      this.claim = null;
    }
  }

  private backOff({ code, message }: Failure): void {
    const { faultBackoffFirst, faultBackoffLast } = this.options.config.timings;
    const ms = faultBackoff(++this.faults, faultBackoffFirst, faultBackoffLast);
    this.options.logger.warn({ code, reason: message, ms }, 'claims pause');
    this.gate.set('backoff', true);
    void pause(ms, this.closing.signal).then(
      () => {
        this.gate.set('backoff', false);
      },
      () => undefined,
    );
  }

  /** Answers that S3 has not taken pile up in Redis: above the bound no more are made. */
  private async checkUncommitted(): Promise<void> {
    const { uncommittedBound } = this.options.config;
    try {
      const count = await countUncommitted(this.options.redis);
      this.gate.set('uncommitted', count > uncommittedBound);
    } catch (error) {
      this.options.logger.debug({ err: error }, 'uncommitted answers not counted');
    }
  }

  private async watchUncommitted(): Promise<void> {
    const { signal } = this.closing;
    const { heartbeat } = this.options.config.timings;
    while (!signal.aborted) {
      await this.checkUncommitted();
      await pause(heartbeat, signal).catch(() => undefined);
    }
  }
}

function checkData(job: Job<ItemJob>): void {
  const parsed = itemJob.safeParse(job.data);
  if (parsed.success) return;
  const message = `job ${job.id} does not name a work item: ${parsed.error.issues[0]?.message}`;
  const failure: ItemFailure = { end: 'failed', code: 'BAD_JOB', message };
  throw new UnrecoverableError(JSON.stringify(failure));
}
