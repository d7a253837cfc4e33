import type { Command } from 'commander';
import type { BatchDeps } from '../batch/queues.js';
import { loadConfig, settingNames, type Config, type SettingName } from '../platform/config.js';
import { ObjectStore } from '../platform/object-store.js';
import { createRedis } from '../platform/redis.js';
import { Releasers, shutdownSignal } from '../platform/shutdown.js';

/** Configuration as the command line gives it: global options and those of the command that name a setting. */
export function configOf(command: Command): Config {
  const options = command.optsWithGlobals<Record<string, unknown>>();
  const flags: Partial<Record<SettingName, unknown>> & { config?: string } = {};
  for (const name of settingNames) if (options[name] !== undefined) flags[name] = options[name];
  if (typeof options['config'] === 'string') flags.config = options['config'];
  return loadConfig({ flags });
}

export interface CommandContext extends BatchDeps {
  config: Config;
  signal: AbortSignal;
}

/** Opens what a command on batches needs, and releases it whatever happens. */
export async function withBatches<T>(
  command: Command,
  use: (context: CommandContext) => Promise<T>,
): Promise<T> {
  const config = configOf(command);
  const releasers = new Releasers();
  const { signal, dispose } = shutdownSignal();
  releasers.add(dispose);
  try {
    const redis = createRedis(config.redisUrl, 'command');
    releasers.add(() => redis.disconnect());
    const store = new ObjectStore(config);
    releasers.add(() => store.close());
    return await use({ config, redis, store, signal });
  } finally {
    await releasers.run();
  }
}

/** To stdout: what a script reads. Everything meant for people while it runs goes to stderr. */
export function printJson(value: unknown): void {
  process.stdout.write(JSON.stringify(value, undefined, 2) + '\n');
}

export function printLine(text: string): void {
  process.stdout.write(text + '\n');
}
