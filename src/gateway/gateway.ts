import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import type { FastifyInstance } from 'fastify';
import { queueOptions } from '../batch/queues.js';
import type { Config } from '../platform/config.js';
import { ConfigError } from '../platform/errors.js';
import { QUEUES } from '../platform/keys.js';
import type { Logger } from '../platform/logger.js';
import { startMonitor } from '../platform/monitor.js';
import { ObjectStore } from '../platform/object-store.js';
import { Readiness } from '../platform/readiness.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { Releasers } from '../platform/shutdown.js';
import { ApiKeys } from './api-keys.js';
import { buildApp } from './app.js';
import type { GatewayContext, ValidateJob } from './context.js';
import { gatewayNeeds } from './health.js';
import { runReconciler, startValidation } from './validate.js';

/**
 * The gateway process; any number may run. Returns when `signal` was aborted and calls and files under way are done or
 * given back. `onReady` is told where it listens.
 * @throws ConfigError for certificates that cannot be used, or a port that is taken.
 */
export async function runGateway(
  config: Config,
  logger: Logger,
  signal: AbortSignal,
  onReady: (url: string) => void = () => undefined,
): Promise<void> {
  const releasers = new Releasers();
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    await checkRedis(redis, config.redisUrl);
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    const connection = createRedis(config.redisUrl, 'bullmq');
    releasers.add(() => connection.disconnect());
    const validation = new Queue<ValidateJob>(QUEUES.validate, queueOptions(redis));
    validation.on('error', () => undefined);
    releasers.add(() => validation.close());

    const giveUp = new AbortController();
    const keys = new ApiKeys(store);
    const context: GatewayContext = { config, logger, store, redis, keys, validation, signal };
    const needs = gatewayNeeds(context);
    releasers.add(await startMonitor({ config, logger, signal, needs }));
    const app = await buildApp(context, new Readiness(needs, logger, signal));
    const url = await listen(app, config);
    const worker = startValidation({ ...context, connection, giveUp: giveUp.signal });
    const loop = runReconciler(context);
    logger.info({ url, tls: url.startsWith('https:') }, 'ready');
    onReady(url);
    if (!signal.aborted) await once(signal, 'abort');
    logger.info('shutting down');
    await drain(config, app, [worker.close(), loop], giveUp);
  } finally {
    await releasers.run();
  }
}

async function listen(
  app: FastifyInstance,
  { gatewayHost: host, gatewayPort: port }: Config,
): Promise<string> {
  try {
    return await app.listen({ host, port });
  } catch (cause) {
    await app.close();
    throw new ConfigError(
      `the gateway cannot listen on ${host} port ${port}; free it or choose another with gatewayHost and gatewayPort (0: any)`,
      { cause },
    );
  }
}

/** What is under way may end within `drain`; then calls are hung up and files given back to another gateway. */
async function drain(
  { timings }: Config,
  app: FastifyInstance,
  others: Promise<unknown>[],
  giveUp: AbortController,
): Promise<void> {
  const over = new AbortController();
  const wait = (ms: number) => sleep(ms, 'late', { signal: over.signal }).catch(() => 'closed');
  const closed = Promise.allSettled([app.close(), ...others]).then(() => 'closed');
  try {
    if ((await Promise.race([closed, wait(timings.drain)])) === 'closed') return;
    giveUp.abort(new Error('the drain took too long'));
    app.server.closeAllConnections();
    await Promise.race([closed, wait(timings.abort)]);
  } finally {
    over.abort();
  }
}
