import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { DelayedError, type Job } from 'bullmq';
import { startWorker } from '../../batch/worker.js';
import { scheduleJob, type Schedule, type ScheduleJob } from '../../contracts/schedule.js';
import type { Config } from '../../platform/config.js';
import { describeError, ifFound } from '../../platform/errors.js';
import { QUEUES } from '../../platform/keys.js';
import type { Logger } from '../../platform/logger.js';
import { startMonitor } from '../../platform/monitor.js';
import { ObjectStore } from '../../platform/object-store.js';
import { batchNeeds } from '../../platform/readiness.js';
import { checkRedis, createRedis } from '../../platform/redis.js';
import { Releasers } from '../../platform/shutdown.js';
import { armTestPoint } from '../../platform/test-points.js';
import { advanceRun, type RunDeps } from './run.js';
import {
  listRuns,
  listSchedules,
  queueRun,
  readPart,
  readSchedule,
  startRun,
  wind,
  withScheduleQueue,
  type ScheduleQueue,
} from './store.js';
import { latestDue, runName } from './times.js';

/** Runs that one scheduler moves on at a time. */
const CONCURRENCY = 4;

/**
 * The scheduler process; any number may run. Returns when `signal` was aborted and steps under way are done or given
 * back: another scheduler goes on with them.
 * @throws ConfigError for a Redis or a store that cannot keep what longhaul promises.
 */
export async function runScheduler(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const releasers = new Releasers();
  armTestPoint(config, logger);
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    await checkRedis(redis, config.redisUrl);
    const connection = createRedis(config.redisUrl, 'bullmq');
    releasers.add(() => connection.disconnect());
    const deps: RunDeps = { config, logger, redis, store };
    const giveUp = new AbortController();
    releasers.add(await startMonitor({ config, logger, signal, needs: batchNeeds(redis, store) }));
    await withScheduleQueue(redis, async (queue) => {
      const worker = startWorker<ScheduleJob>(
        { config, logger, connection, giveUp: giveUp.signal },
        QUEUES.schedules,
        CONCURRENCY,
        (job, token, stopped) => work(deps, queue, job, token, stopped),
      );
      logger.info({ store: store.url('') }, 'ready');
      const loop = reconcile(deps, queue, signal);
      if (!signal.aborted) await once(signal, 'abort');
      logger.info('shutting down');
      const timer = setTimeout(
        () => giveUp.abort(new Error('the drain took too long')),
        config.timings.drain,
      );
      try {
        await Promise.all([loop, worker.close()]);
      } finally {
        clearTimeout(timer);
      }
    });
  } finally {
    await releasers.run();
  }
}

async function work(
  deps: RunDeps,
  queue: ScheduleQueue,
  job: Job<ScheduleJob>,
  token: string,
  signal: AbortSignal,
): Promise<void> {
  const { schedule: name, run } = scheduleJob.parse(job.data);
  const schedule = await ifFound(readSchedule(deps.store, name, signal));
  // Removed since.
  if (schedule === undefined) return;
  if (run === undefined) {
    await startIfDue(deps, queue, schedule, signal);
    return;
  }
  if ((await advanceRun(deps, schedule, run, signal)) === 'done') return;
  await job.moveToDelayed(Date.now() + deps.config.timings.reconcile, token);
  throw new DelayedError();
}

/**
 * Starts the run of the latest due time, unless it or a later one was started: so runs that were missed, however many,
 * are caught up by one. One that waits for an earlier run to end does for this time too.
 */
async function startIfDue(
  { store }: RunDeps,
  queue: ScheduleQueue,
  schedule: Schedule,
  signal: AbortSignal,
): Promise<void> {
  const { name, paused, active_since } = schedule;
  const due = latestDue(schedule, new Date());
  if (paused || due.getTime() / 1000 <= active_since) return;
  const run = runName(due);
  const last = (await listRuns(store, name, signal)).at(-1);
  if (last !== undefined) {
    if (last >= run) return;
    const [plan, end] = await Promise.all([
      readPart(store, name, last, 'plan', signal),
      readPart(store, name, last, 'end', signal),
    ]);
    if (plan === undefined && end === undefined) return;
  }
  await startRun(store, queue, name, { run, cause: 'cron' }, signal);
}

/** What Redis has lost, what was due while no scheduler ran, and runs whose starter died: made good by each pass. */
async function reconcile(deps: RunDeps, queue: ScheduleQueue, signal: AbortSignal): Promise<void> {
  const { store, logger, config } = deps;
  while (!signal.aborted) {
    try {
      for (const schedule of await listSchedules(store, signal)) {
        await wind(queue, schedule);
        await startIfDue(deps, queue, schedule, signal);
        await queueOpenRuns(deps, queue, schedule.name, signal);
      }
    } catch (error) {
      if (!signal.aborted)
        logger.warn(describeError(error), 'pass over the schedules failed; it is repeated');
    }
    await sleep(config.timings.reconcile, undefined, { signal }).catch(() => undefined);
  }
}

/** From the latest run back to one that has ended and been told of. */
async function queueOpenRuns(
  { store }: RunDeps,
  queue: ScheduleQueue,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  for (const run of (await listRuns(store, name, signal)).reverse()) {
    const end = await readPart(store, name, run, 'end', signal);
    if (end?.status === 'succeeded') return;
    const told = end !== undefined && (await readPart(store, name, run, 'webhook', signal)) !== undefined;
    if (told) return;
    await queueRun(queue, name, run);
    // A failed run without a webhook ends at once when it is looked at; the ones before it have ended.
    if (end !== undefined) return;
  }
}
