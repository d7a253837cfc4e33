import type { Command } from 'commander';
import type { BatchDeps } from '../batch/queues.js';
import { loadConfig, settingNames, type Config, type SettingName } from '../platform/config.js';
import { LonghaulError } from '../platform/errors.js';
import { ObjectStore } from '../platform/object-store.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { armTestPoint } from '../platform/test-points.js';
import { shutdownSignal } from '../platform/shutdown.js';

/** Configuration as the command line gives it: global options and those of the command that name a setting. */
export function configOf(command: Command): Config {
  const options = command.optsWithGlobals<Record<string, unknown>>();
  const flags: Partial<Record<SettingName, unknown>> & { config?: string } = {};
  for (const name of settingNames) if (options[name] !== undefined) flags[name] = options[name];
  if (typeof options['config'] === 'string') flags.config = options['config'];
  return loadConfig({ flags });
}

export interface StoreContext {
  config: Config;
  store: ObjectStore;
  signal: AbortSignal;
}

export type CommandContext = StoreContext & BatchDeps;

/** Opens what a command that only reads S3 needs, and releases it whatever happens. */
export function withStore<T>(command: Command, use: (context: StoreContext) => Promise<T>): Promise<T> {
  return withStoreOf(configOf(command), use);
}

async function withStoreOf<T>(config: Config, use: (context: StoreContext) => Promise<T>): Promise<T> {
  armTestPoint(config);
  const { signal, dispose } = shutdownSignal();
  try {
    const store = new ObjectStore(config);
    try {
      return await use({ config, store, signal });
    } catch (cause) {
      // What was thrown says only that something was cut short.
      if (!signal.aborted) throw cause;
      throw new LonghaulError(
        'INTERRUPTED',
        'interrupted; the same command again goes on from what is done',
        {
          cause,
        },
      );
    } finally {
      store.close();
    }
  } finally {
    dispose();
  }
}

/**
 * Likewise for a command on batches. A Redis that does not answer is said in plain words, at once or, with
 * `checkLater`, by the command itself.
 */
export function withBatches<T>(
  command: Command,
  use: (context: CommandContext) => Promise<T>,
  { checkLater = false } = {},
): Promise<T> {
  return withBatchesOf(configOf(command), use, { checkLater });
}

/** The same for a configuration that is not the command's own. */
export function withBatchesOf<T>(
  config: Config,
  use: (context: CommandContext) => Promise<T>,
  { checkLater = false } = {},
): Promise<T> {
  return withStoreOf(config, async (context) => {
    const redis = createRedis(context.config.redisUrl, 'command');
    try {
      if (!checkLater) await checkRedis(redis, context.config.redisUrl);
      return await use({ ...context, redis });
    } finally {
      redis.disconnect();
    }
  });
}

/** To stdout: what a script reads. Everything meant for people while it runs goes to stderr. */
export function printJson(value: unknown): void {
  process.stdout.write(JSON.stringify(value, undefined, 2) + '\n');
}

export function printLine(text: string): void {
  process.stdout.write(text + '\n');
}
