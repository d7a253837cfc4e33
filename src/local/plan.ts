import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { toEnvironment, type Settings } from '../platform/config.js';
import { timingProfiles, type TimingProfile } from '../platform/timings.js';
import { packageRoot, type Layout } from './layout.js';
import { redisArguments } from './redis-server.js';
import type { GroupSpec, StackPlan } from './state-files.js';

export interface StackOptions {
  ranks: number;
  backend: Settings['backend'];
  threads: number;
  comm?: Settings['comm'];
  cpuPrecision?: Settings['cpuPrecision'];
  modelDir: string;
  headsFile?: string;
  profile: TimingProfile;
  logLevel?: Settings['logLevel'];
}

/** What a former plan of the folder keeps for the next one: addresses and keys that others may have noted down. */
export type Kept = Required<
  Pick<
    StackPlan,
    'redisPort' | 'redisPassword' | 's3Port' | 's3AccessKeyId' | 's3SecretAccessKey' | 'dashboardPort'
  >
>;

const bucket = 'longhaul';

/** True when nothing listens on the port now. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** The former ports where they are still free, others where they are not. */
export async function keep(former: StackPlan | undefined): Promise<Kept> {
  const port = async (wanted: number | undefined): Promise<number> =>
    wanted !== undefined && (await isFree(wanted)) ? wanted : freePort();
  return {
    redisPort: await port(former?.redisPort),
    s3Port: await port(former?.s3Port),
    dashboardPort: await port(former?.dashboardPort),
    redisPassword: former?.redisPassword ?? randomBytes(24).toString('hex'),
    s3AccessKeyId: former?.s3AccessKeyId ?? `local-${randomBytes(6).toString('hex')}`,
    s3SecretAccessKey: former?.s3SecretAccessKey ?? randomBytes(24).toString('hex'),
  };
}

export function settingsOf(kept: Kept, options: StackOptions): StackPlan['settings'] {
  const settings: StackPlan['settings'] = {
    redisUrl: `redis://:${kept.redisPassword}@127.0.0.1:${kept.redisPort}`,
    s3Endpoint: `http://127.0.0.1:${kept.s3Port}`,
    s3Bucket: bucket,
    s3PathStyle: true,
    s3AccessKeyId: kept.s3AccessKeyId,
    s3SecretAccessKey: kept.s3SecretAccessKey,
    dashboardPort: kept.dashboardPort,
    ranks: options.ranks,
    backend: options.backend,
    threads: options.threads,
    // Its ranks share this machine.
    documentMemoryMb: Math.max(1, Math.floor(totalmem() / options.ranks / 2 ** 20)),
    modelDir: options.modelDir,
    profile: options.profile,
  } satisfies Partial<Settings>;
  if (options.comm !== undefined) settings.comm = options.comm;
  if (options.cpuPrecision !== undefined) settings.cpuPrecision = options.cpuPrecision;
  if (options.headsFile !== undefined) settings.headsFile = options.headsFile;
  return settings;
}

/** Starts in this order, stops in reverse. */
export function makePlan(paths: Layout, kept: Kept, options: StackOptions, redisCommand: string): StackPlan {
  const timings = timingProfiles[options.profile];
  const settings = settingsOf(kept, options);
  const longhaul = join(packageRoot, 'bin', 'longhaul.js');
  const environment = toEnvironment({ ...(settings as Partial<Settings>), logLevel: options.logLevel });
  const s3Main = fileURLToPath(new URL('./s3/main.js', import.meta.url));
  const s3Arguments = ['--dir', paths.s3, '--credentials', paths.s3Credentials, '--bucket', bucket];

  const redis: GroupSpec = {
    name: 'redis',
    processes: [
      {
        name: 'redis',
        command: redisCommand,
        args: [paths.redisConfig, ...redisArguments({ port: kept.redisPort, dir: paths.redis })],
        environment: {},
      },
    ],
    survivorMs: 0,
    stopMs: 20_000,
    ready: { kind: 'redis', port: kept.redisPort, password: kept.redisPassword },
  };
  const s3: GroupSpec = {
    name: 's3',
    processes: [
      {
        name: 's3',
        command: process.execPath,
        args: [s3Main, ...s3Arguments, '--port', String(kept.s3Port)],
        environment: {},
      },
    ],
    survivorMs: 0,
    stopMs: 10_000,
    ready: { kind: 'tcp', port: kept.s3Port },
  };
  const aggregator: GroupSpec = {
    name: 'aggregator',
    processes: [
      { name: 'aggregator', command: process.execPath, args: [longhaul, 'aggregator'], environment },
    ],
    survivorMs: 0,
    stopMs: timings.drain + 5_000,
  };
  const scheduler: GroupSpec = {
    name: 'scheduler',
    processes: [{ name: 'scheduler', command: process.execPath, args: [longhaul, 'scheduler'], environment }],
    survivorMs: 0,
    stopMs: timings.drain + 5_000,
  };
  const cohort: GroupSpec = {
    name: 'cohort',
    processes: Array.from({ length: options.ranks }, (_, rank) => ({
      name: `rank-${rank}`,
      command: process.execPath,
      args: [longhaul, 'worker', '--rank', String(rank), '--ranks', String(options.ranks)],
      environment,
    })),
    // The time in which they find out that one is missing, and that in which they must have left after it.
    survivorMs: timings.heartbeatExpiry + timings.abort + 1_000,
    stopMs: timings.drain + timings.abort + 2_000,
  };
  const dashboard: GroupSpec = {
    name: 'dashboard',
    processes: [{ name: 'dashboard', command: process.execPath, args: [longhaul, 'dashboard'], environment }],
    survivorMs: 0,
    stopMs: 5_000,
  };
  return { version: 1, ...kept, settings, groups: [redis, s3, aggregator, scheduler, dashboard, cohort] };
}
