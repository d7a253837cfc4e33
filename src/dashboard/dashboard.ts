import { once } from 'node:events';
import { ManifestCache } from '../batch/manifest-cache.js';
import { withQueues } from '../batch/queues.js';
import type { Config } from '../platform/config.js';
import { ConfigError } from '../platform/errors.js';
import type { Logger } from '../platform/logger.js';
import { startMonitor } from '../platform/monitor.js';
import { ObjectStore } from '../platform/object-store.js';
import { batchNeeds } from '../platform/readiness.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { Releasers } from '../platform/shutdown.js';
import { Access } from './access.js';
import { buildApp } from './app.js';
import { BatchIndex } from './batch-index.js';
import { Live } from './live.js';

/**
 * The dashboard process; returns when `signal` was aborted. `onReady` is told where it listens.
 * @throws ConfigError for one that would be open to other machines without a password, or whose port is taken.
 */
export async function runDashboard(
  config: Config,
  logger: Logger,
  signal: AbortSignal,
  onReady: (url: string) => void = () => undefined,
): Promise<void> {
  const access = new Access(config);
  const releasers = new Releasers();
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    await checkRedis(redis, config.redisUrl);
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    const needs = batchNeeds(redis, store);
    releasers.add(await startMonitor({ config, logger, signal, needs }));
    const index = new BatchIndex(redis);
    const live = new Live({ redis, store }, index);
    await withQueues(redis, async (queues) => {
      const manifests = new ManifestCache(store);
      const app = await buildApp({ config, logger, redis, store, queues, manifests, index, access, live });
      const { dashboardHost: host, dashboardPort: port } = config;
      try {
        const url = await app.listen({ host, port }).catch((cause: unknown) => {
          const remedy = 'free it or choose another with dashboardHost and dashboardPort (0: any)';
          throw new ConfigError(`the dashboard cannot listen on ${host} port ${port}; ${remedy}`, { cause });
        });
        logger.info({ url, password: config.dashboardPasswordHash !== undefined }, 'ready');
        onReady(url);
        if (!signal.aborted) await once(signal, 'abort');
        logger.info('shutting down');
      } finally {
        await live.close();
        await app.close();
      }
    });
  } finally {
    await releasers.run();
  }
}
