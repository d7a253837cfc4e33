/**
 * Real services for tests: a redis-server, our S3 server as a process, and a watch for what a test
 * leaves behind. Everything listens on the loopback interface, on free ports, in temporary folders.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { findRedisServer, pingRedis, redisArguments } from '../../src/local/redis-server.js';
import type { FaultRuleInput, FaultState, FaultSwitches } from '../../src/local/s3/faults.js';
import { running, watch, type Service } from './leaks.js';
import { compiled } from './compiled.js';

export { trackLeaks } from './leaks.js';

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A folder under the system's temporary folder. Whoever asks removes it. */
export function tempDir(prefix = 'longhaul-'): Promise<string> {
  return mkdtemp(join(tmpdir(), prefix));
}

/** Ends a child: `signal`, then SIGKILL after `graceMs`. Returns when it is gone. */
export async function endProcess(
  child: ChildProcess,
  signal: NodeJS.Signals = 'SIGTERM',
  graceMs = 10_000,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await exited;
  clearTimeout(timer);
}

export interface RedisService {
  url: string;
  port: number;
  dir: string;
  readonly pid: number;
  /** Sends a signal (SIGSTOP, SIGCONT, SIGKILL ...); after a fatal one, waits until it is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port and folder, ending it first if it runs. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedis(
  options: { dir?: string; port?: number; more?: string[]; environment?: Record<string, string> } = {},
): Promise<RedisService> {
  const command = await findRedisServer();
  const dir = options.dir ?? (await tempDir('longhaul-redis-'));
  const launch = async (port: number): Promise<ChildProcess> => {
    const child = watch(
      spawn(command, [...redisArguments({ port, dir }), ...(options.more ?? [])], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, ...options.environment },
      }),
    );
    child.stdout?.pipe(createWriteStream(join(dir, 'redis.log'), { flags: 'a' }));
    const deadline = Date.now() + 20_000;
    while (!(await pingRedis(port))) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await endProcess(child, 'SIGKILL');
        const log = await readFile(join(dir, 'redis.log'), 'utf8').catch(() => '');
        throw new Error(`redis-server did not start on port ${port}:\n${log.slice(-2000)}`);
      }
      await sleep(20);
    }
    return child;
  };
  let port = options.port ?? (await freePort());
  let child: ChildProcess;
  try {
    child = await launch(port);
  } catch (error) {
    if (options.port !== undefined) throw error;
    // Someone took the free port in between: once more with another one.
    child = await launch((port = await freePort()));
  }
  const service: RedisService & Service = {
    name: `redis-server on port ${port}`,
    url: `redis://127.0.0.1:${port}`,
    port,
    dir,
    get pid() {
      return child.pid ?? -1;
    },
    async kill(signal) {
      if (signal === 'SIGKILL' || signal === 'SIGTERM') await endProcess(child, signal);
      else child.kill(signal);
    },
    async restart() {
      child.kill('SIGCONT');
      await endProcess(child);
      child = await launch(port);
    },
    async stop() {
      running.delete(service);
      // A stopped process does not see SIGTERM.
      child.kill('SIGCONT');
      await endProcess(child);
      if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
    },
  };
  running.add(service);
  return service;
}

/** The faults of an S3 server in another process; see src/local/s3/faults.ts for what there is. */
export class FaultsClient {
  constructor(
    private readonly endpoint: string,
    private readonly secret: string,
  ) {}

  private async send<T>(method: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.endpoint}/_faults`, {
      method,
      headers: { authorization: `Bearer ${this.secret}` },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok) throw new Error(`/_faults: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  async add(rule: FaultRuleInput): Promise<number> {
    return (await this.send<{ id: number }>('POST', rule)).id;
  }

  async set(switches: FaultSwitches): Promise<void> {
    await this.send('PATCH', switches);
  }

  async clear(): Promise<void> {
    await this.send('DELETE');
  }

  state(): Promise<FaultState> {
    return this.send('GET');
  }

  /** How often a rule has struck. */
  async hits(id: number): Promise<number> {
    return (await this.state()).rules.find((r) => r.id === id)?.hits ?? 0;
  }
}

export interface S3Service {
  endpoint: string;
  bucket: string;
  dir: string;
  region: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** What longhaul's configuration needs to reach it. */
  settings: {
    s3Endpoint: string;
    s3Bucket: string;
    s3PathStyle: true;
    s3AccessKeyId: string;
    s3SecretAccessKey: string;
  };
  readonly pid: number;
  faults: FaultsClient;
  stop(): Promise<void>;
  kill9(): Promise<void>;
  /** Starts it again on the same port and folder, ending it first if it runs. */
  restart(): Promise<void>;
}

export interface S3Options {
  dir?: string;
  bucket?: string;
  /** Force every write to the disk, as outside of tests. Default false: kill9() loses nothing either way. */
  fsync?: boolean;
  /** Further keys, each limited by its policy. */
  limited?: { accessKeyId: string; secretAccessKey: string; policy: unknown }[];
  /** Rules in force from the start. */
  faults?: FaultRuleInput[];
}

export async function startS3(options: S3Options = {}): Promise<S3Service> {
  const dir = options.dir ?? (await tempDir('longhaul-s3-'));
  const bucket = options.bucket ?? 'longhaul-test';
  const credentials = { accessKeyId: 'test-key', secretAccessKey: randomBytes(20).toString('hex') };
  const script = compiled('src/local/s3/main.ts');
  const launch = async (port: number): Promise<{ child: ChildProcess; endpoint: string }> => {
    const args = ['--dir', dir, '--bucket', bucket, '--port', String(port)];
    args.push('--access-key', credentials.accessKeyId, '--secret-key', credentials.secretAccessKey);
    if (!options.fsync) args.push('--no-fsync');
    if (options.limited !== undefined) {
      await writeFile(join(dir, 'limited.json'), JSON.stringify(options.limited));
      args.push('--limited', join(dir, 'limited.json'));
    }
    const child = watch(
      spawn(process.execPath, ['--enable-source-maps', script, ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
    let log = '';
    child.stderr?.on('data', (text: Buffer) => (log += text.toString()));
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const timeout = new AbortController();
    const first = await Promise.race([
      once(lines, 'line').then(([line]) => line as string),
      once(child, 'exit').then(() => undefined),
      sleep(20_000, undefined, { signal: timeout.signal }).catch(() => undefined),
    ]);
    timeout.abort();
    if (first === undefined) {
      await endProcess(child, 'SIGKILL');
      throw new Error(`the local S3 server did not start:\n${log}`);
    }
    return { child, endpoint: (JSON.parse(first) as { endpoint: string }).endpoint };
  };
  let { child, endpoint } = await launch(0);
  const service: S3Service & Service = {
    name: `S3 server ${endpoint}`,
    endpoint,
    bucket,
    dir,
    region: 'us-east-1',
    credentials,
    settings: {
      s3Endpoint: endpoint,
      s3Bucket: bucket,
      s3PathStyle: true,
      s3AccessKeyId: credentials.accessKeyId,
      s3SecretAccessKey: credentials.secretAccessKey,
    },
    get pid() {
      return child.pid ?? -1;
    },
    faults: new FaultsClient(endpoint, credentials.secretAccessKey),
    kill9: () => endProcess(child, 'SIGKILL'),
    async restart() {
      await endProcess(child);
      ({ child, endpoint } = await launch(Number(new URL(endpoint).port)));
    },
    async stop() {
      running.delete(service);
      await endProcess(child);
      if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
    },
  };
  running.add(service);
  for (const rule of options.faults ?? []) await service.faults.add(rule);
  return service;
}
