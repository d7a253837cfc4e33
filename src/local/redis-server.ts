import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ConfigError } from '../platform/errors.js';
import { packageRoot } from './layout.js';

/** Where infra/setup/redis.sh puts a redis-server that it could not install system-wide. */
export const redisToolPath = join(packageRoot, '.longhaul/tools/redis/redis-server');

/**
 * The redis-server to spawn: the one on PATH, else the one of the setup script.
 * @throws ConfigError saying how to get one.
 */
export async function findRedisServer(candidates = ['redis-server', redisToolPath]): Promise<string> {
  for (const command of candidates) {
    if (command.includes('/') && !existsSync(command)) continue;
    try {
      await promisify(execFile)(command, ['--version'], { timeout: 10_000 });
      return command;
    } catch {
      // Not there, or not runnable on this machine: the next one.
    }
  }
  throw new ConfigError(
    `redis-server was not found on PATH or at ${redisToolPath}. Get it with ${join(packageRoot, 'infra/setup/redis.sh')}, or with ` +
      '`apt-get install redis-server` or `brew install redis`.',
  );
}

/** What our redis-server runs with: loopback only, every write in an append-only file, and no eviction, which would lose jobs. */
export function redisArguments({ port, dir }: { port: number; dir: string }): string[] {
  const settings: Record<string, string> = {
    port: String(port),
    bind: '127.0.0.1',
    dir,
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
    save: '',
    daemonize: 'no',
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

/** Whether a Redis on the loopback interface answers PING now. False while it still loads its file. */
export function pingRedis(port: number, password?: string, timeoutMs = 1_000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let received = '';
    const finish = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.setTimeout(timeoutMs, () => finish(false));
    socket.on('error', () => finish(false));
    socket.on('close', () => finish(false));
    socket.on('connect', () =>
      socket.write(password === undefined ? 'PING\r\n' : `AUTH ${password}\r\nPING\r\n`),
    );
    socket.on('data', (data: Buffer) => {
      received += data.toString('latin1');
      if (received.includes('+PONG')) finish(true);
      else if (received.includes('-')) finish(false);
    });
  });
}
