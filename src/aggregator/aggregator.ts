import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'bullmq';
import { ManifestCache } from '../batch/manifest-cache.js';
import { withQueues } from '../batch/queues.js';
import { countUncommitted } from '../batch/uncommitted.js';
import type { Config } from '../platform/config.js';
import { describeError } from '../platform/errors.js';
import { redisKeys } from '../platform/keys.js';
import type { Logger } from '../platform/logger.js';
import { ObjectStore } from '../platform/object-store.js';
import { startMonitor } from '../platform/monitor.js';
import { batchNeeds } from '../platform/readiness.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { armTestPoint } from '../platform/test-points.js';
import { Releasers } from '../platform/shutdown.js';
import { startCommit } from './commit.js';
import type { AggregatorContext } from './context.js';
import { readGauges } from './gauges.js';
import { startFinalise } from './finalise.js';
import { runReconciler } from './reconcile.js';

/**
 * The aggregator process: outcomes to S3, batches to their end. Any number may run. Returns when
 * `signal` was aborted and the work under way is committed or given back.
 * @throws ConfigError for a Redis or a store that cannot keep what longhaul promises.
 */
export async function runAggregator(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const releasers = new Releasers();
  armTestPoint(config, logger);
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    const { aof } = await checkRedis(redis, config.redisUrl);
    if (!aof)
      logger.warn('Redis runs without AOF: a restart loses the queue until the reconciler rebuilds it');
    await store.probe(signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    if (signal.aborted) return;
    const connection = createRedis(config.redisUrl, 'bullmq');
    releasers.add(() => connection.disconnect());

    const giveUp = new AbortController();
    await withQueues(redis, async (queues) => {
      const manifests = new ManifestCache(store);
      const tokenizer = lazily(() => loadTokenizer(config.modelDir));
      releasers.add(async () => (await tokenizer.opened())?.close());
      const context: AggregatorContext = {
        config,
        logger,
        store,
        redis,
        queues,
        manifests,
        tokenizer: tokenizer.open,
        connection,
        giveUp: giveUp.signal,
      };
      const stopMonitor = await startMonitor({
        config,
        logger,
        signal,
        needs: batchNeeds(redis, store),
        refresh: () => readGauges(redis, queues, config.timings.heartbeat),
      });
      releasers.add(stopMonitor);
      const workers = [startCommit(context), startFinalise(context)];
      logger.info({ store: store.url(''), concurrency: config.aggregatorConcurrency }, 'ready');
      const loops = Promise.all([runReconciler(context, signal), publishUncommitted(context, signal)]);
      if (!signal.aborted) await once(signal, 'abort');
      await drain(context, workers, loops, giveUp);
    });
  } finally {
    await releasers.run();
  }
}

/**
 * Commits what is under way; after `drain` it is given back; `abort` later we leave in any case (Redis
 * may be away), and the jobs are taken over like those of an aggregator that died.
 */
async function drain(
  { logger, config }: AggregatorContext,
  workers: Worker[],
  loops: Promise<unknown>,
  giveUp: AbortController,
): Promise<void> {
  logger.info('shutting down');
  const over = new AbortController();
  const wait = (ms: number) => sleep(ms, 'late', { signal: over.signal }).catch(() => 'closed');
  const closed = Promise.allSettled([loops, ...workers.map((worker) => worker.close())]).then(() => 'closed');
  try {
    if ((await Promise.race([closed, wait(config.timings.drain)])) === 'closed') return;
    giveUp.abort(new Error('the drain took too long'));
    if ((await Promise.race([closed, wait(config.timings.abort)])) === 'closed') return;
    logger.warn('left with work under way; it is taken over when its locks expire');
  } finally {
    over.abort();
  }
}

/** Keeps the gauge of uncommitted answers fresh; it vanishes with the last aggregator. */
async function publishUncommitted(context: AggregatorContext, signal: AbortSignal): Promise<void> {
  const { redis, logger, config } = context;
  const period = config.timings.heartbeat;
  while (!signal.aborted) {
    try {
      await redis.set(redisKeys.uncommitted(), await countUncommitted(redis), 'PX', period * 10);
    } catch (error) {
      logger.debug(describeError(error), 'uncommitted gauge not written');
    }
    await sleep(period, undefined, { signal }).catch(() => undefined);
  }
}

/** One opening serves all who ask for it; one that failed is tried again. */
function lazily<T>(load: () => Promise<T>): { open: () => Promise<T>; opened: () => Promise<T | undefined> } {
  let opening: Promise<T> | undefined;
  return {
    open: () => {
      const mine = (opening ??= load());
      mine.catch(() => (opening = undefined));
      return mine;
    },
    opened: async () => opening?.catch(() => undefined),
  };
}
