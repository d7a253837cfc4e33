/** A redis-server, the local S3 server, an aggregator and clients of our own, for what is measured for the simulation. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds, dist, startRedis, startS3 } from '../services.js';

const DEADLINE_MS = 400_000;

/** Runs `work` with all of it, and ends it in any case. */
export async function withStack(work) {
  const directory = await mkdtemp(join(tmpdir(), 'longhaul-simulate-'));
  const children = [];
  const end = () => {
    for (const child of children) child.kill('SIGKILL');
  };
  // However this process ends, none of those is left behind.
  process.once('exit', end);
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
  try {
    await work(await open(directory, children));
  } finally {
    end();
    await rm(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function open(directory, children) {
  const redis = await startRedis(directory, children);
  const s3 = await startS3(directory, children);
  const metricsPort = await freePort();
  const environment = {
    ...process.env,
    LONGHAUL_REDIS_URL: `redis://127.0.0.1:${redis.port}`,
    LONGHAUL_MODEL_DIR: join(dist, '../models/demo'),
    LONGHAUL_PROFILE: 'fast',
    LONGHAUL_LOG_LEVEL: 'error',
    ...s3.environment,
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  };
  const { loadConfig } = await import(join(dist, 'platform/config.js'));
  const { createRedis } = await import(join(dist, 'platform/redis.js'));
  const { ObjectStore } = await import(join(dist, 'platform/object-store.js'));
  const keys = await import(join(dist, 'platform/keys.js'));
  const client = createRedis(environment.LONGHAUL_REDIS_URL, 'command');
  const store = new ObjectStore(loadConfig({ environment: s3.environment, directory }));
  const start = (...args) => {
    const child = spawn(process.execPath, [join(dist, '../bin/longhaul.js'), ...args], {
      cwd: directory,
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child.printed = '';
    child.stdout.on('data', (text) => (child.printed += text));
    children.push(child);
    return child;
  };
  const aggregator = start('aggregator', '--metrics-port', String(metricsPort));
  return {
    directory,
    environment,
    createRedis,
    client,
    store,
    keys,
    start,
    aggregatorMetrics: async () => (await globalThis.fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text(),
    /** Processor seconds of Redis and the aggregator so far, and commands that Redis has run, those of scripts too. */
    async used() {
      const info = await client.info('stats');
      return {
        redis: await cpuSeconds(redis.child.pid),
        aggregator: await cpuSeconds(aggregator.pid),
        commands: Number(/total_commands_processed:(\d+)/.exec(info)?.[1]),
      };
    },
    close() {
      client.disconnect();
      store.close();
    },
  };
}

/** Asks again and again until there is an answer. */
export async function until(what, ask, pause = 10) {
  const end = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${DEADLINE_MS / 1000} s`);
    await sleep(pause);
  }
}

export const machine = () => ({
  machine: `${availableParallelism()} x ${cpus()[0]?.model}`,
  load: loadavg()[0],
  date: new Date().toISOString().slice(0, 10),
});

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}
