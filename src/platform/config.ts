/**
 * Configuration: one schema, read once. Sources, strongest first: flags, `LONGHAUL_*` environment
 * variables, the JSON file named by `--config` or `LONGHAUL_CONFIG`, then `.longhaul/local.json`,
 * which `longhaul local up` writes; of a stack elsewhere (`--dir`) `--config` names it. S3 credentials come the usual AWS ways (environment, profile,
 * instance role) unless the file carries them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { LANE } from '../contracts/manifest.js';
import { ConfigError } from './errors.js';
import { hideCredentials } from './hide-credentials.js';
import { testPointSetting } from './test-points.js';
import { timingProfiles, type Timings } from './timings.js';

const port = z.coerce.number().int().min(0).max(65535);
/** A flag or variable holds it separated by commas, a file as an array. */
const list = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',').map((entry) => entry.trim()) : value),
  z.array(z.string().min(1)),
);

function areLanes(lanes: readonly string[]): boolean {
  const parts = lanes.map((lane) => lane.split(':'));
  const bounds = parts.map(([, bound = '']) => (/^[1-9]\d{0,8}$/.test(bound) ? Number(bound) : 0));
  return (
    parts.every(({ length, 0: name = '' }) => length === 2 && LANE.test(name)) &&
    new Set(parts.map(([name]) => name)).size === lanes.length &&
    bounds.every((bound, i) => bound > (bounds[i - 1] ?? 0))
  );
}

const schema = z.strictObject({
  /**
   * With TLS as `rediss://user:password@host:port?ca=ca.pem&cert=cert.pem&key=key.pem`; a cluster by its nodes,
   * `redis+cluster://user:password@host:7000,host:7000`; by sentinels `redis+sentinel://user:password@host:26379,host:26379/name`.
   */
  redisUrl: z
    .string()
    .regex(
      /^rediss?(\+cluster|\+sentinel)?:\/\//,
      'must start with redis:// or rediss://, and may name a cluster, redis+cluster://, or sentinels, redis+sentinel://',
    )
    .default('redis://127.0.0.1:6379'),
  s3Endpoint: z.url().optional(),
  s3Region: z.string().min(1).default('us-east-1'),
  s3Bucket: z.string().min(3).default('longhaul'),
  /** Key prefix inside the bucket, without leading or trailing slash. */
  s3Prefix: z
    .string()
    .regex(/^([^/].*[^/]|[^/]|)$/, 'must not start or end with /')
    .default(''),
  s3PathStyle: z.stringbool().or(z.boolean()).default(false),
  s3AccessKeyId: z.string().optional(),
  s3SecretAccessKey: z.string().optional(),
  s3TimeoutMs: z.coerce.number().int().min(100).default(30_000),
  s3Attempts: z.coerce.number().int().min(1).max(20).default(4),

  modelDir: z.string().default('models/demo'),
  headsFile: z.string().optional(),
  backend: z.enum(['cpu', 'cuda', 'auto']).default('auto'),
  threads: z.coerce.number().int().min(1).max(512).default(1),
  /** What the CPU backend's linear layers multiply. */
  cpuPrecision: z.enum(['float32', 'bf16']).default('float32'),
  /** MiB of a CPU rank for a document: its cache, and what runs over it. The machine's memory unless given. */
  documentMemoryMb: z.coerce.number().int().min(1).optional(),
  /** What the planner measured, on this machine or on one of the cohort's; in the user's cache unless given. */
  calibrationFile: z.string().min(1).optional(),
  /** Which GPU a rank uses, counted modulo those that it sees; its rank unless given. */
  gpu: z.coerce.number().int().min(0).max(63).optional(),
  /** libapb_cuda.so and libcublasLt.so; found by themselves unless given. */
  cudaLibrary: z.string().optional(),
  cublasLt: z.string().optional(),
  /** What ranks exchange through: `auto` is nccl where every rank has a GPU of its own, tcp otherwise. */
  comm: z.enum(['tcp', 'nccl', 'auto']).default('auto'),
  /** libnccl.so.2; found by itself unless given. */
  nccl: z.string().optional(),

  cohort: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'letters, digits, - and _ only')
    .default('main'),
  /** Which documents the cohort claims: those of this lane alone; unless given, those of none. */
  lane: z.string().regex(LANE, 'small letters, digits, - and _ only').optional(),
  /** Of batches submitted here: a name and the most tokens of a document, `short:8192,medium:65536`. */
  lanes: list.refine(areLanes, 'must be NAME:TOKENS, each name once and by growing tokens').default([]),
  ranks: z.coerce.number().int().min(1).max(64).default(4),
  rank: z.coerce.number().int().min(0).max(63).default(0),
  /** Address on which other ranks reach this one. */
  host: z.string().default('127.0.0.1'),
  port: port.default(0),

  /** This process acts for other people: documents are read only from where the settings below allow it. */
  service: z.stringbool().or(z.boolean()).default(false),
  /** Documents named by path must lie below this folder. */
  documentRoot: z.string().min(1).optional(),
  /** `http://` documents are read too, which anybody on the way can change. */
  documentHttp: z.stringbool().or(z.boolean()).default(false),
  /** A service's exceptions: hosts (`wiki.intern`, `10.0.0.7:8443`) that may have private addresses. */
  documentHosts: list.default([]),
  /** A service's `s3://` documents: `bucket` or `bucket/prefix`. Elsewhere whatever the credentials can read. */
  documentBuckets: list.default([]),
  documentMaxBytes: z.coerce
    .number()
    .int()
    .min(1)
    .max(1024 ** 3)
    .default(64 * 1024 ** 2),
  /** One document fetched from the web, with all its redirects. */
  documentTimeoutMs: z.coerce.number().int().min(100).default(300_000),

  profile: z.enum(['normal', 'fast']).default('normal'),
  /** Leaders stop claiming above this many answers that S3 has not taken yet. */
  uncommittedBound: z.coerce.number().int().min(1).default(1000),
  aggregatorConcurrency: z.coerce.number().int().min(1).max(256).default(16),
  /** The reconciler drops finished batches from Redis after this many days, and the oldest above this number; S3 has them. */
  keepFinishedDays: z.coerce.number().min(0).default(30),
  keepFinishedBatches: z.coerce.number().int().min(0).default(10_000),
  dashboardHost: z.string().min(1).default('127.0.0.1'),
  dashboardPort: port.default(7070),
  /** As `longhaul dashboard password` prints it; beyond the loopback interface the dashboard does not start without one. */
  dashboardPasswordHash: z
    .string()
    .regex(/^scrypt\$/, 'must be what `longhaul dashboard password` prints')
    .optional(),
  /** Under which people reach it, when that is not its own address: behind a proxy with TLS. */
  dashboardUrl: z.url({ protocol: /^https?$/ }).optional(),
  gatewayHost: z.string().min(1).default('127.0.0.1'),
  gatewayPort: port.default(7080),
  /** PEM files; both or none. Without them the gateway speaks plain HTTP. */
  gatewayTlsCert: z.string().min(1).optional(),
  gatewayTlsKey: z.string().min(1).optional(),
  /** Bytes of one uploaded file. */
  gatewayFileMaxBytes: z.coerce
    .number()
    .int()
    .min(1)
    .default(512 * 1024 ** 2),
  /** Grace of a drain, in seconds: a running document may end within it. The profile's unless given. */
  drainSeconds: z.coerce.number().positive().max(86_400).optional(),
  /** Where this process serves /metrics, /healthz and /readyz. Nowhere unless given. */
  metricsPort: port.optional(),
  /** Whether a rank adds its number to it: ranks of one machine share their settings. */
  metricsPortByRank: z.stringbool().or(z.boolean()).default(true),
  metricsHost: z.string().min(1).default('127.0.0.1'),
  /** Where traces go by OTLP/HTTP: the address before `/v1/traces`. Nowhere unless given. */
  otlpEndpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Sent along: `name=value,name=value`. */
  otlpHeaders: z
    .string()
    .regex(/^[^=,]+=[^,]*(,[^=,]+=[^,]*)*$/, 'must be name=value,name=value')
    .optional(),
  /** `service.name` of traces; `longhaul-` and the command unless given. */
  otlpService: z.string().min(1).optional(),
  /** Which share of traces is told, 0 to 1. */
  otlpShare: z.coerce.number().min(0).max(1).default(1),
  /** For tests: where this process stops or dies (test-points.ts). */
  testPoint: testPointSetting.optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

export type Settings = z.infer<typeof schema>;
export interface Config extends Readonly<Settings> {
  readonly timings: Timings;
}
export type SettingName = keyof Settings;

/** `redisUrl` -> `LONGHAUL_REDIS_URL`. */
export function environmentName(setting: SettingName): string {
  return 'LONGHAUL_' + setting.replace(/[A-Z]/g, (c) => '_' + c).toUpperCase();
}

/** OpenTelemetry's own variables; those of `LONGHAUL_` come before them. */
const STANDARD = {
  OTEL_EXPORTER_OTLP_ENDPOINT: 'otlpEndpoint',
  OTEL_EXPORTER_OTLP_HEADERS: 'otlpHeaders',
  OTEL_SERVICE_NAME: 'otlpService',
  OTEL_TRACES_SAMPLER_ARG: 'otlpShare',
} as const satisfies Record<string, SettingName>;

export const settingNames = Object.keys(schema.shape) as SettingName[];

/** Environment variables that give these settings to a child process. */
export function toEnvironment(settings: Partial<Settings>): Record<string, string> {
  const entries = settingNames.flatMap((name) => {
    const value = settings[name];
    return value === undefined ? [] : [[environmentName(name), String(value)] as const];
  });
  return Object.fromEntries(entries);
}

/**
 * The environment of a child process: ours, without settings that the person may have made for other deployments,
 * and with those given.
 */
export function childEnvironment(additions: Record<string, string>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('LONGHAUL_'));
  return { ...Object.fromEntries(inherited), ...additions };
}

/** GPUs that CUDA shows to this process, by index or UUID; empty: all of them. */
export function visibleGpus(): string[] {
  return (process.env['CUDA_VISIBLE_DEVICES'] ?? '').split(',').flatMap((entry) => entry.trim() || []);
}

function readFile(path: string, source: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    // A syntax error quotes the text around it, which may be a secret.
    const kept = cause instanceof SyntaxError ? undefined : { cause };
    throw new ConfigError(`${source} ${path} cannot be read as JSON; correct or remove it`, kept);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(`${source} ${path} must hold a JSON object`);
  }
  return value as Record<string, unknown>;
}

function fromEnvironment(environment: NodeJS.ProcessEnv): Record<string, unknown> {
  const known = new Map(settingNames.map((name) => [environmentName(name), name]));
  const unknown = Object.keys(environment).filter(
    (name) => name.startsWith('LONGHAUL_') && name !== 'LONGHAUL_CONFIG' && !known.has(name),
  );
  if (unknown.length > 0) {
    throw new ConfigError(
      `unknown environment variable ${unknown.join(', ')}; known: LONGHAUL_CONFIG, ${[...known.keys()].join(', ')}`,
    );
  }
  const names = [
    ...Object.entries(STANDARD),
    ...settingNames.map((name) => [environmentName(name), name] as const),
  ];
  return Object.fromEntries(
    names.flatMap(([variable, name]) => {
      const value = environment[variable];
      return value === undefined || value === '' ? [] : [[name, value] as const];
    }),
  );
}

/** A setting's value for a message. */
function shown(name: string, value: unknown): string {
  if (/secret|password|accesskey|token|headers/i.test(name)) return '(secret)';
  return typeof value === 'string' ? JSON.stringify(hideCredentials(value)) : JSON.stringify(value);
}

export interface ConfigSources {
  flags?: Partial<Record<SettingName, unknown>> & { config?: string };
  environment?: NodeJS.ProcessEnv;
  directory?: string;
}

/**
 * Merges all sources and checks them.
 * @throws ConfigError naming the setting, its value and where it came from.
 */
export function loadConfig({
  flags = {},
  environment = process.env,
  directory = process.cwd(),
}: ConfigSources = {}): Config {
  const { config: flagFile, ...flagSettings } = flags;
  const layers: { source: string; values: Record<string, unknown> }[] = [];
  const local = resolve(directory, '.longhaul/local.json');
  if (existsSync(local)) layers.push({ source: local, values: readFile(local, 'the local file') });
  const file = flagFile ?? environment['LONGHAUL_CONFIG'];
  if (file !== undefined)
    layers.push({ source: file, values: readFile(resolve(directory, file), 'the configuration file') });
  layers.push({ source: 'the environment', values: fromEnvironment(environment) });
  const given = Object.fromEntries(Object.entries(flagSettings).filter(([, value]) => value !== undefined));
  layers.push({ source: 'a flag', values: given });

  const merged: Record<string, unknown> = {};
  const origin = new Map<string, string>();
  for (const { source, values } of layers) {
    for (const [name, value] of Object.entries(values)) {
      merged[name] = value;
      origin.set(name, source);
    }
  }
  const parsed = schema.safeParse(merged);
  if (!parsed.success) {
    const from = (name: string) => `(from ${origin.get(name) ?? 'a source'})`;
    const lines = parsed.error.issues.flatMap((issue) => {
      // Nobody knows what an unknown one holds: its value may be a secret.
      if (issue.code === 'unrecognized_keys')
        return issue.keys.map((key) => `unknown setting ${key} ${from(key)}`);
      const name = String(issue.path[0]);
      return [`${name} = ${shown(name, merged[name])} ${from(name)}: ${issue.message}`];
    });
    throw new ConfigError(`configuration refused: ${lines.join('; ')}`);
  }
  const settings = parsed.data;
  if (settings.rank >= settings.ranks) {
    throw new ConfigError(`rank = ${settings.rank} must be below ranks = ${settings.ranks}`);
  }
  const profile = timingProfiles[settings.profile];
  const { drainSeconds } = settings;
  const timings = drainSeconds === undefined ? profile : { ...profile, drain: drainSeconds * 1000 };
  return Object.freeze({ ...settings, timings });
}
