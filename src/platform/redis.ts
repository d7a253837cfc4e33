import { readFileSync } from 'node:fs';
import { Redis, type RedisOptions } from 'ioredis';
import { ConfigError, InfrastructureError } from './errors.js';
import { hideCredentials } from './hide-credentials.js';

/**
 * A Redis client. `command`: fails a call that the server does not answer in time, for everything
 * but BullMQ. `bullmq`: waits for the server as long as it takes, as BullMQ requires.
 * The caller closes it with `quit()` or `disconnect()` in a `finally`.
 */
export function createRedis(url: string, use: 'command' | 'bullmq', options: RedisOptions = {}): Redis {
  const common: RedisOptions = {
    connectTimeout: 5_000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2_000),
  };
  const byUse: RedisOptions =
    use === 'bullmq' ? { maxRetriesPerRequest: null } : { maxRetriesPerRequest: 3, commandTimeout: 10_000 };
  const { address, tls } = tlsOf(url);
  const redis = new Redis(address, { ...common, ...byUse, ...(tls && { tls }), ...options });
  // Without a listener every lost connection would be printed as an unhandled error; calls still fail.
  redis.on('error', () => undefined);
  return redis;
}

const TLS_FILES = ['ca', 'cert', 'key'] as const;

/** `rediss://host?ca=...&cert=...&key=...`: the authority to trust, and a certificate to show, as files in PEM. */
function tlsOf(url: string): { address: string; tls?: Partial<Record<(typeof TLS_FILES)[number], Buffer>> } {
  if (!url.startsWith('rediss://')) return { address: url };
  const address = new URL(url);
  const tls: ReturnType<typeof tlsOf>['tls'] = {};
  for (const name of TLS_FILES) {
    const path = address.searchParams.get(name);
    if (path === null) continue;
    try {
      tls[name] = readFileSync(path);
    } catch (cause) {
      throw new ConfigError(`the ${name} of redisUrl, ${path}, cannot be read; give a PEM file`, { cause });
    }
    address.searchParams.delete(name);
  }
  return { address: address.href, tls };
}

/**
 * Refuses a Redis on which jobs could vanish.
 * @throws InfrastructureError when it cannot be reached, ConfigError when it would evict keys or is too old.
 */
export async function checkRedis(redis: Redis, url: string): Promise<{ version: string; aof: boolean }> {
  const shown = hideCredentials(url);
  let info: string;
  try {
    info = await redis.info();
  } catch (cause) {
    throw new InfrastructureError(
      'REDIS_UNREACHABLE',
      `Redis at ${shown} does not answer; start it or correct redisUrl`,
      { cause },
    );
  }
  const field = (name: string) => new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]?.trim() ?? '';
  const version = field('redis_version');
  const policy = field('maxmemory_policy');
  if (policy !== 'noeviction') {
    throw new ConfigError(
      `Redis at ${shown} has maxmemory-policy ${policy || 'unknown'}, which may drop jobs; set it to noeviction`,
    );
  }
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < 6 || (major === 6 && minor < 2)) {
    throw new ConfigError(`Redis at ${shown} is version ${version}; longhaul needs 6.2 or newer`);
  }
  return { version, aof: field('aof_enabled') === '1' };
}
