import { DelayedError, UnrecoverableError, WaitingError, Worker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import type { ItemJob } from '../contracts/work-item.js';
import type { Config } from '../platform/config.js';
import { describeError } from '../platform/errors.js';
import { QUEUE_PREFIX } from '../platform/keys.js';
import type { Logger } from '../platform/logger.js';
import { queueTelemetry } from '../platform/tracing.js';

export interface WorkerContext {
  config: Pick<Config, 'timings'>;
  logger: Logger;
  /** The client that BullMQ's workers use: it waits for Redis as long as it takes. */
  connection: Redis;
  /** Aborted when a drain has taken too long: work under way is given back. */
  giveUp: AbortSignal;
}

/**
 * A worker whose jobs do not fail: whatever goes wrong (S3 away for a night, Redis for a minute) is
 * tried again after a growing pause, for as long as it takes, and burns nothing. Only a batch that
 * no longer exists ends its jobs.
 */
export function startWorker<T>(
  context: WorkerContext,
  queue: string,
  concurrency: number,
  process: (job: Job<T>, token: string, signal: AbortSignal) => Promise<void>,
): Worker<T> {
  const { logger, giveUp } = context;
  const { timings } = context.config;
  const worker = new Worker<T>(
    queue,
    // BullMQ passes the signal only to a processor of length 3: no default values here.
    async (job, token, signal) => {
      try {
        await process(job, token ?? '', AbortSignal.any(signal === undefined ? [giveUp] : [giveUp, signal]));
      } catch (error) {
        if (giveUp.aborted) {
          await job.moveToWait(token);
          throw new WaitingError();
        }
        // The second: the work itself has put its job aside until later.
        if (error instanceof UnrecoverableError || error instanceof DelayedError) throw error;
        const pause = Math.min(
          timings.faultBackoffLast,
          timings.faultBackoffFirst * 2 ** Math.min(job.attemptsStarted - 1, 20),
        );
        logger.warn({ ...namesOf(queue, job), pause, ...describeError(error) }, 'will be tried again');
        await job.moveToDelayed(Date.now() + pause, token);
        throw new DelayedError();
      }
    },
    {
      connection: context.connection,
      prefix: QUEUE_PREFIX,
      concurrency,
      lockDuration: timings.lock,
      stalledInterval: timings.stalled,
      maxStalledCount: 1000,
      ...queueTelemetry(),
    },
  );
  worker.on('error', (error) => logger.warn({ queue, ...describeError(error) }, 'worker'));
  worker.on('failed', (job, error) =>
    logger.error({ ...namesOf(queue, job), ...describeError(error) }, 'failed'),
  );
  worker.on('stalled', (job) => logger.warn({ queue, job }, 'taken over from a worker that vanished'));
  return worker;
}

/** What log lines about a job have; of most jobs it is a batch, or one of its work items. */
function namesOf(queue: string, job: Job | undefined): Record<string, unknown> {
  const { batch_id: batch, item } = (job?.data ?? {}) as Partial<ItemJob>;
  return { queue, job: job?.id, batch, item, epoch: job?.attemptsStarted };
}
