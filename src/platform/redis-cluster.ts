/** Redis Cluster: its address, its client, and what each of its nodes says about itself. */
import { Cluster, Command, type Redis, type RedisOptions } from 'ioredis';
import { ConfigError } from './errors.js';
import { hideCredentials } from './hide-credentials.js';

const SCHEME = /^rediss?\+cluster:\/\//;

/**
 * The addresses of `redis+cluster://user:password@a:7000,b:7000/?ca=...` (with TLS `rediss+cluster://`), one for each
 * node, with the user and the files in each; undefined: this address names one server. Any node that lives is enough
 * to find the others.
 * @throws ConfigError when it names no node.
 */
export function clusterNodes(url: string): [string, ...string[]] | undefined {
  if (!SCHEME.test(url)) return undefined;
  const parts = /^(rediss?)\+cluster:\/\/([^/?]*@)?([^/?@]+)\/?(\?.*)?$/.exec(url);
  const [, scheme, user = '', hosts = '', query = ''] = parts ?? [];
  const [first, ...others] = hosts.split(',').map((host) => `${scheme}://${user}${host.trim()}/${query}`);
  if (parts === null || first === undefined || ![first, ...others].every((each) => URL.canParse(each))) {
    const example = 'redis+cluster://user:password@a:6379,b:6379,c:6379';
    throw new ConfigError(`redisUrl ${hideCredentials(url)} names no nodes; write it as ${example}`);
  }
  return [first, ...others];
}

/**
 * ioredis has calls wait without end while no node can be reached, whatever their `commandTimeout`, which counts only
 * from a node's connection on. A rank that cannot write its heartbeat has to know it.
 */
class BoundedCluster extends Cluster {
  override sendCommand(...[command, ...rest]: Parameters<Cluster['sendCommand']>): unknown {
    const ms = this.options.redisOptions?.commandTimeout;
    if (ms !== undefined && command instanceof Command) command.setTimeout(ms);
    return super.sendCommand(command, ...rest);
  }
}

/**
 * A client of the cluster of these nodes. It has every command that a client of one server has, as long as the keys
 * of a script or a MULTI share a hash tag (keys.ts), so it passes for one.
 */
export function openCluster(nodes: readonly string[], options: RedisOptions): Redis {
  const addresses = nodes.map((node) => new URL(node));
  const [first] = addresses;
  const user = {
    ...(first?.username && { username: decodeURIComponent(first.username) }),
    ...(first?.password && { password: decodeURIComponent(first.password) }),
  };
  const cluster = new BoundedCluster(
    addresses.map(({ hostname, port }) => ({ host: hostname, port: Number(port || 6379) })),
    {
      redisOptions: { ...user, ...options, replyMapping: 'legacy' },
      clusterRetryStrategy: (attempt) => options.retryStrategy?.(attempt),
      slotsRefreshTimeout: options.connectTimeout,
      lazyConnect: options.lazyConnect,
      // A name stays a name: the certificate of a node is made out to it.
      dnsLookup: (host, found) => {
        found(null, host);
      },
    },
  );
  return cluster as unknown as Redis;
}

/** INFO of a server, or of each node of a cluster: any of them may be the one that the queues move to. */
export async function infoOfAll(redis: Redis): Promise<{ node: string; info: string }[]> {
  const client: unknown = redis;
  if (!(client instanceof Cluster)) return [{ node: '', info: await redis.info() }];
  // Before the first answer its nodes are only those that it was told of.
  await client.ping();
  return Promise.all(
    client.nodes('all').map(async (node) => {
      const { host = '', port = 0 } = node.options;
      return { node: `, node ${host}:${port},`, info: await node.info() };
    }),
  );
}
