/** What `redisUrl` says of where Redis is and how to get in: one server, or sentinels that know which one it is now. */
import { readFileSync } from 'node:fs';
import type { RedisOptions } from 'ioredis';
import { ConfigError } from './errors.js';
import { hideCredentials } from './hide-credentials.js';

const TLS_FILES = ['ca', 'cert', 'key'] as const;
type Tls = Partial<Record<(typeof TLS_FILES)[number], Buffer>>;

const SENTINELS = /^(rediss?)\+sentinel:\/\/(?:([^/]*)@)?([^/@?]+)\/([^/?]+)(?:\/(\d+))?(\?.*)?$/;
const SENTINEL_PORT = 26_379;

/**
 * For `new Redis(...)`. One server: `redis://user:password@host:port/db`. Sentinels:
 * `redis+sentinel://user:password@host:port,host:port/name/db?sentinelPassword=...`, where user and password are Redis's
 * own and `name` is what the sentinels call the master. With TLS `rediss:` and `rediss+sentinel:`, for both; `ca`, `cert`
 * and `key` name PEM files.
 * @throws ConfigError for an address that cannot be read, or a file.
 */
export function redisOptions(url: string): { address?: string; options: RedisOptions } {
  if (!/^rediss?\+sentinel:/.test(url)) {
    if (!url.startsWith('rediss://')) return { address: url, options: {} };
    const address = new URL(url);
    const tls = takeTls(address.searchParams);
    return { address: address.href, options: { tls } };
  }
  const [, scheme, user, hosts = '', name, db, query] = SENTINELS.exec(url) ?? [];
  if (name === undefined) {
    throw new ConfigError(
      `redisUrl = ${JSON.stringify(hideCredentials(url))} must be like redis+sentinel://user:password@host:26379,host:26379/name`,
    );
  }
  const parameters = new URLSearchParams(query);
  const [username, password] = (user ?? '').split(/:(.*)/s).map(decodeURIComponent);
  const tls = scheme === 'rediss' ? takeTls(parameters) : undefined;
  const sentinelPassword = parameters.get('sentinelPassword');
  const sentinelUsername = parameters.get('sentinelUsername');
  return {
    options: {
      sentinels: hosts.split(',').map(sentinel),
      name: decodeURIComponent(name),
      db: Number(db ?? 0),
      ...(username && { username }),
      ...(password && { password }),
      ...(sentinelUsername && { sentinelUsername }),
      ...(sentinelPassword && { sentinelPassword }),
      ...(tls && { tls, sentinelTLS: tls, enableTLSForSentinelMode: true }),
      // A master that hangs keeps its connections: then sentinels say that there is another one.
      failoverDetector: true,
    },
  };
}

/** `host`, `host:port` or `[::1]:port`. */
function sentinel(text: string): { host: string; port: number } {
  const [, host, port] = /^(\[[^\]]+\]|[^:]+)(?::(\d+))?$/.exec(text) ?? [];
  if (host === undefined)
    throw new ConfigError(`redisUrl names the sentinel ${JSON.stringify(text)}; give host:port`);
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port ?? SENTINEL_PORT) };
}

/** The authority to trust, and a certificate to show. */
function takeTls(parameters: URLSearchParams): Tls {
  const tls: Tls = {};
  for (const name of TLS_FILES) {
    const path = parameters.get(name);
    if (path === null) continue;
    try {
      tls[name] = readFileSync(path);
    } catch (cause) {
      throw new ConfigError(`the ${name} of redisUrl, ${path}, cannot be read; give a PEM file`, { cause });
    }
    parameters.delete(name);
  }
  return tls;
}
