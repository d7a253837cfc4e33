/**
 * Services, ranks and commands of the built app, for the tests on GPUs. The app is a bundle's (infra/bundle) or this
 * checkout's; nothing else is needed, no development package either.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { clearTimeout, setTimeout } from 'node:timers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
const BUNDLE = join(root, 'build/bundle/longhaul');
const STOP_MS = 40_000;
/** `longhaul results` ends with it before _SUCCESS is there. */
const NOT_FINISHED = 2;

/** Options that all of these tests have, for parseArgs. */
export const commonOptions = {
  app: { type: 'string', default: existsSync(join(BUNDLE, 'bin/longhaul.js')) ? BUNDLE : root },
  backend: { type: 'string', default: 'cuda' },
  comm: { type: 'string', default: 'nccl' },
  ranks: { type: 'string', default: '2' },
};

/** MiB in use on each GPU; null: there is no nvidia-smi. */
export function gpuMemory() {
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits'];
  const { error, status, stdout, stderr } = spawnSync('nvidia-smi', query, { encoding: 'utf8' });
  if (error?.code === 'ENOENT') return null;
  if (error || status !== 0) throw new Error(`nvidia-smi failed: ${error?.message ?? stderr}`);
  return stdout.trim().split('\n').map(Number);
}

/** Waits until every GPU is down to what it used when idle, plus `slack` MiB; false: not within `ms`. */
export async function memoryIsFree(idle, ms, slack = 64) {
  const end = performance.now() + ms;
  for (;;) {
    if (gpuMemory().every((used, gpu) => used <= idle[gpu] + slack)) return true;
    if (performance.now() > end) return false;
    await sleep(50);
  }
}

export async function until(what, ms, probe) {
  const end = performance.now() + ms;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${ms / 1000} s: ${what}`);
    await sleep(20);
  }
}

/** The environment of a program of the app, with its own Node and redis-server first. */
function environment(app, additions = {}) {
  return {
    ...process.env,
    PATH: [join(app, 'runtime'), join(root, '.longhaul/tools/redis'), process.env.PATH].join(delimiter),
    ...additions,
  };
}

/** Runs `longhaul ...args` to its end; `show`: its output goes to ours as well. */
export async function longhaul(app, args, { cwd, settings, show = false }) {
  const child = spawn(process.execPath, [join(app, 'bin/longhaul.js'), ...args], {
    cwd,
    env: environment(app, settings),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const text = { out: '', err: '' };
  child.stdout.on('data', (data) => {
    text.out += data;
    if (show) process.stdout.write(data);
  });
  child.stderr.on('data', (data) => {
    text.err += data;
    if (show) process.stderr.write(data);
  });
  const [code] = await once(child, 'close');
  return { code, ...text };
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A child whose end has a time: `exit` resolves to {code, signal, at}, `at` by performance.now(). */
function start(command, args, { env, log }) {
  const file = openSync(log, 'a');
  const child = spawn(command, args, { env, stdio: ['ignore', file, file] });
  closeSync(file);
  const exit = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve({ code, signal, at: performance.now() }));
  });
  return { child, log, exit };
}

async function stop({ child, exit }) {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await exit;
  clearTimeout(timer);
}

function lines(log) {
  return readFileSync(log, 'utf8')
    .split('\n')
    .flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line)] : []));
}

/** The rank processes of one generation. Nobody starts them anew: that is for the test to do. */
class Cohort {
  constructor(members) {
    this.members = members;
  }

  /** Waits until all ranks are connected; returns what connects them. */
  async connected(ms = 120_000) {
    const comms = await until('the ranks are connected', ms, () => {
      const gone = this.members.find(({ child }) => child.exitCode !== null || child.signalCode !== null);
      if (gone !== undefined) throw new Error(`a rank ended: ${readFileSync(gone.log, 'utf8').slice(-2000)}`);
      const found = this.members.map(
        ({ log }) => lines(log).find(({ msg }) => msg === 'ranks connected')?.comm,
      );
      return found.every((comm) => comm !== undefined) && found;
    });
    return comms[0];
  }

  /** Settles only as a rejection, when a rank ends: nobody starts it anew, so whoever waits for an answer waits in vain. */
  async untilLost() {
    const { log } = await Promise.race(this.members.map(({ exit, log }) => exit.then(() => ({ log }))));
    throw new Error(`a rank ended: ${readFileSync(log, 'utf8').slice(-2000)}`);
  }

  /** What a rank says of why it gave its cohort up; undefined: it did not. */
  lostBecause(rank) {
    return lines(this.members[rank].log).find(({ msg }) => msg === 'cohort lost')?.code;
  }

  async stop() {
    await Promise.all(this.members.map(stop));
  }
}

/** redis-server, the local S3 server and an aggregator in a folder, and the cohorts that a test starts beside them. */
export class Stack {
  services = [];
  cohorts = [];

  /** @param settings of every process: { LONGHAUL_...: value } */
  static async open(app, folder, settings) {
    const stack = new Stack();
    Object.assign(stack, { app, folder });
    for (const name of ['redis', 's3', 'logs']) mkdirSync(join(folder, name), { recursive: true });
    const [redisPort, s3Port] = [await freePort(), await freePort()];
    const keys = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
    writeFileSync(join(folder, 'keys.json'), JSON.stringify(keys), { mode: 0o600 });
    stack.settings = {
      LONGHAUL_REDIS_URL: `redis://127.0.0.1:${redisPort}`,
      LONGHAUL_S3_ENDPOINT: `http://127.0.0.1:${s3Port}`,
      LONGHAUL_S3_BUCKET: 'longhaul',
      LONGHAUL_S3_PATH_STYLE: 'true',
      LONGHAUL_S3_ACCESS_KEY_ID: keys.accessKeyId,
      LONGHAUL_S3_SECRET_ACCESS_KEY: keys.secretAccessKey,
      ...settings,
    };
    try {
      const redis = [
        '--port',
        redisPort,
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--maxmemory-policy',
        'noeviction',
      ];
      stack.serve('redis', 'redis-server', [...redis, '--dir', join(folder, 'redis')].map(String));
      const s3 = [
        '--dir',
        join(folder, 's3'),
        '--credentials',
        join(folder, 'keys.json'),
        '--bucket',
        'longhaul',
      ];
      stack.serve('s3', process.execPath, [
        join(app, 'dist/local/s3/main.js'),
        ...s3,
        '--port',
        String(s3Port),
      ]);
      const ready = async () => (await stack.longhaul(['status'])).code === 0;
      await until(`Redis and S3 serve; see ${join(folder, 'logs')}`, 60_000, ready);
      stack.serve('aggregator', process.execPath, [join(app, 'bin/longhaul.js'), 'aggregator']);
    } catch (error) {
      await stack.close();
      throw error;
    }
    return stack;
  }

  serve(name, command, args) {
    const log = join(this.folder, 'logs', `${name}.log`);
    const service = start(command, args, { env: environment(this.app, this.settings), log });
    service.exit.catch((error) => console.error(`${name} did not start: ${error.message}`));
    this.services.push(service);
  }

  longhaul(args, options = {}) {
    return longhaul(this.app, args, { cwd: this.folder, settings: this.settings, ...options });
  }

  /** @param settingsOf further settings of a rank */
  cohort(ranks, settingsOf = () => ({})) {
    const number = this.cohorts.length;
    const members = Array.from({ length: ranks }, (_, rank) => {
      const args = [
        join(this.app, 'bin/longhaul.js'),
        'worker',
        '--rank',
        String(rank),
        '--ranks',
        String(ranks),
      ];
      const env = environment(this.app, { ...this.settings, ...settingsOf(rank) });
      return start(process.execPath, args, {
        env,
        log: join(this.folder, 'logs', `cohort-${number}-rank-${rank}.log`),
      });
    });
    const cohort = new Cohort(members);
    this.cohorts.push(cohort);
    return cohort;
  }

  /** The id of the batch that `file` is. */
  async submit(file, ...options) {
    const { code, out, err } = await this.longhaul(['submit', file, '--json', ...options]);
    if (code !== 0) throw new Error(`longhaul submit ended with exit code ${code}: ${err}`);
    return JSON.parse(out).id;
  }

  /** Waits for a batch whose requests must all be answered; its outcomes, what _SUCCESS counts. */
  async results(batch, ms) {
    const to = join(this.folder, 'results', batch);
    await until(`the end of batch ${batch}; see ${join(this.folder, 'logs')}`, ms, async () => {
      const { code, err } = await this.longhaul(['results', batch, '--out', to]);
      if (code !== 0 && code !== NOT_FINISHED)
        throw new Error(`longhaul results ended with exit code ${code}: ${err}`);
      return code === 0;
    });
    const read = (name) =>
      readFileSync(join(to, name), 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    const errors = read('error.jsonl');
    if (errors.length > 0) throw new Error(`requests without an answer: ${JSON.stringify(errors)}`);
    return { outcomes: read('output.jsonl'), counts: read('_SUCCESS')[0].counts };
  }

  async close() {
    await Promise.all(this.cohorts.map((cohort) => cohort.stop()));
    for (const service of this.services.reverse()) await stop(service).catch(() => undefined);
  }
}

/** A table for people. */
export function printTable(rows) {
  const names = Object.keys(rows[0] ?? {});
  const widths = names.map((name) => Math.max(name.length, ...rows.map((row) => String(row[name]).length)));
  const line = (cells) =>
    cells
      .map((cell, i) => String(cell).padEnd(widths[i]))
      .join('  ')
      .trimEnd();
  console.log(line(names));
  for (const row of rows) console.log(line(names.map((name) => row[name])));
}
