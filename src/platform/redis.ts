import { Redis, type RedisOptions } from 'ioredis';
import { ConfigError, InfrastructureError } from './errors.js';
import { hideCredentials } from './hide-credentials.js';
import { redisOptions } from './redis-address.js';
import { clusterNodes, infoOfAll, openCluster } from './redis-cluster.js';

/**
 * A Redis client. `command`: fails a call that the server does not answer in time, for everything
 * but BullMQ. `bullmq`: waits for the server as long as it takes, as BullMQ requires.
 * `redis+cluster://` addresses make a client of a cluster. The caller closes it with `quit()` or `disconnect()` in a `finally`.
 */
export function createRedis(url: string, use: 'command' | 'bullmq', options: RedisOptions = {}): Redis {
  const common: RedisOptions = {
    connectTimeout: 5_000,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2_000),
  };
  const byUse: RedisOptions =
    use === 'bullmq' ? { maxRetriesPerRequest: null } : { maxRetriesPerRequest: 3, commandTimeout: 10_000 };
  const nodes = clusterNodes(url);
  const where = redisOptions(nodes?.[0] ?? url);
  const all = { ...common, ...byUse, ...where.options, ...options };
  const redis =
    nodes !== undefined
      ? openCluster(nodes, all)
      : where.address === undefined
        ? new Redis(all)
        : new Redis(where.address, all);
  // Without a listener every lost connection would be printed as an unhandled error; calls still fail.
  redis.on('error', () => undefined);
  return redis;
}

/**
 * Refuses a Redis on which jobs could vanish.
 * @throws InfrastructureError when it cannot be reached, ConfigError when it would evict keys or is too old.
 */
export async function checkRedis(redis: Redis, url: string): Promise<{ version: string; aof: boolean }> {
  const shown = hideCredentials(url);
  const servers = await infoOfAll(redis).catch((cause: unknown) => {
    throw new InfrastructureError(
      'REDIS_UNREACHABLE',
      `Redis at ${shown} does not answer; start it or correct redisUrl`,
      { cause },
    );
  });
  const facts = servers.map(({ node, info }) => factsOf(info, `${shown}${node}`));
  const [first] = facts;
  return { version: first?.version ?? '', aof: facts.every(({ aof }) => aof) };
}

/** Of one server's INFO. @throws ConfigError */
function factsOf(info: string, shown: string): { version: string; aof: boolean } {
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
