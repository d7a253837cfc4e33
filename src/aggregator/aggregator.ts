import { setTimeout as sleep } from 'node:timers/promises';
import { ManifestCache } from '../batch/manifest-cache.js';
import { withQueues } from '../batch/queues.js';
import { countUncommitted } from '../batch/uncommitted.js';
import type { Config } from '../platform/config.js';
import { describeError } from '../platform/errors.js';
import { redisKeys } from '../platform/keys.js';
import type { Logger } from '../platform/logger.js';
import { ObjectStore } from '../platform/object-store.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { Releasers } from '../platform/shutdown.js';
import { startCommit } from './commit.js';
import type { AggregatorContext } from './context.js';
import { startFinalise } from './finalise.js';
import { runReconciler } from './reconcile.js';

/**
 * The aggregator process: outcomes to S3, batches to their end. Any number may run. Returns when
 * `signal` was aborted and the work under way is committed or given back.
 * @throws ConfigError for a Redis or a store that cannot keep what longhaul promises.
 */
export async function runAggregator(config: Config, logger: Logger, signal: AbortSignal): Promise<void> {
  const releasers = new Releasers();
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    const { aof } = await checkRedis(redis, config.redisUrl);
    if (!aof)
      logger.warn('Redis runs without AOF: a restart loses the queue until the reconciler rebuilds it');
    await store.probe(signal);
    const connection = createRedis(config.redisUrl, 'bullmq');
    releasers.add(() => connection.disconnect());

    const giveUp = new AbortController();
    await withQueues(redis, async (queues) => {
      const manifests = new ManifestCache(store);
      const context: AggregatorContext = {
        config,
        logger,
        store,
        redis,
        queues,
        manifests,
        connection,
        giveUp: giveUp.signal,
      };
      const workers = [startCommit(context), startFinalise(context)];
      try {
        logger.info({ store: store.url(''), concurrency: config.aggregatorConcurrency }, 'ready');
        await Promise.all([runReconciler(context, signal), publishUncommitted(context, signal)]);
      } finally {
        logger.info('shutting down');
        const timer = setTimeout(
          () => giveUp.abort(new Error('the drain took too long')),
          config.timings.drain,
        );
        try {
          await Promise.all(workers.map((worker) => worker.close()));
        } finally {
          clearTimeout(timer);
        }
      }
    });
  } finally {
    await releasers.run();
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
