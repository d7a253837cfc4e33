/** What benchmarks run beside them: a real redis-server and the local S3 server, in a folder of their own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const dist = fileURLToPath(new URL('../dist', import.meta.url));

/** Started ones are added to `children`, which the caller ends. */
export async function startRedis(directory, children) {
  const { findRedisServer, pingRedis, redisArguments } = await import(join(dist, 'local/redis-server.js'));
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  const dir = join(directory, 'redis');
  await mkdir(dir);
  const child = spawn(await findRedisServer(), redisArguments({ port, dir }), { stdio: 'ignore' });
  children.push(child);
  for (let i = 0; !(await pingRedis(port)); i++) {
    if (i > 200) throw new Error('redis-server did not start');
    await sleep(50);
  }
  return { child, port };
}

export async function startS3(directory, children) {
  const [key, secret, bucket] = ['bench-key', 'bench-secret-of-this-run', 'longhaul-bench'];
  const args = ['--dir', join(directory, 's3'), '--bucket', bucket, '--port', '0'];
  args.push('--access-key', key, '--secret-key', secret);
  const child = spawn(process.execPath, [join(dist, 'local/s3/main.js'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const environment = {
    LONGHAUL_S3_ENDPOINT: JSON.parse(line).endpoint,
    LONGHAUL_S3_BUCKET: bucket,
    LONGHAUL_S3_PATH_STYLE: 'true',
    LONGHAUL_S3_ACCESS_KEY_ID: key,
    LONGHAUL_S3_SECRET_ACCESS_KEY: secret,
  };
  return { child, environment };
}

/** User and system time so far (Linux; elsewhere 0). */
export async function cpuSeconds(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return (user + system) / 100;
}
