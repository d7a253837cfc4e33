import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isAlive, type ProcessIdentity } from '../../src/local/process-identity.js';
import { readJson, stackState } from '../../src/local/state-files.js';
import type { LocalStatus } from '../../src/local/status.js';
import { loadConfig } from '../../src/platform/config.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { checkRedis, createRedis } from '../../src/platform/redis.js';
import { writeRandomModel } from '../chaos/random-model.js';
import { tempDir, trackLeaks } from '../support/services.js';

// The real command with real ranks. Needs `make build`.
trackLeaks();
let work: string;
let dir: string;
let model: string;

beforeEach(async () => {
  work = await tempDir('longhaul-up-');
  dir = join(work, '.longhaul');
  model = writeRandomModel(join(work, 'model'), 1);
});
afterEach(async () => {
  await local('down');
  await rm(work, { recursive: true, force: true });
});

interface Result {
  code: number;
  out: string;
  err: string;
}
function local(...args: string[]): Promise<Result> {
  const all = [resolve('bin/longhaul.js'), 'local', ...args, '--dir', dir];
  return new Promise((done) => {
    execFile(process.execPath, all, { cwd: work, timeout: 110_000 }, (error, out, err) => {
      done({ code: error ? Number(error.code ?? 1) : 0, out, err });
    });
  });
}
const up = (...more: string[]): Promise<Result> =>
  local(
    'up',
    '--ranks',
    '2',
    '--threads',
    '1',
    '--model',
    model,
    '--profile',
    'fast',
    '--timeout',
    '90',
    ...more,
  );
async function status(): Promise<LocalStatus> {
  return JSON.parse((await local('status', '--json')).out) as LocalStatus;
}
const identities = (): ProcessIdentity[] => {
  const state = readJson(join(dir, 'supervisor.json'), stackState);
  if (!state) return [];
  return [state.supervisor, ...state.groups.flatMap((g) => g.processes).flatMap((p) => p.identity ?? [])];
};

describe('longhaul local', () => {
  test('up serves, a second up changes nothing, other options are refused, down leaves nothing', async () => {
    const first = await up();
    expect(first.err).toContain('ready: cohort of 2');
    expect(first.code).toBe(0);
    expect(first.out).toContain(join(dir, 'logs', 'rank-1.log'));

    // What other commands pick up, readable by this user only.
    expect(statSync(join(dir, 'local.json')).mode & 0o777).toBe(0o600);
    // From another folder, --config names it.
    const elsewhere = loadConfig({
      flags: { config: join(dir, 'local.json') },
      environment: {},
      directory: model,
    });
    expect(elsewhere).toEqual(loadConfig({ environment: {}, directory: work }));
    const config = loadConfig({ environment: {}, directory: work });
    const redis = createRedis(config.redisUrl, 'command');
    const store = new ObjectStore(config);
    try {
      expect(await checkRedis(redis, config.redisUrl)).toMatchObject({ aof: true });
      await store.probe();
    } finally {
      redis.disconnect();
      store.close();
    }

    const all = identities();
    expect(all).toHaveLength(8);
    const second = await up();
    expect(second).toMatchObject({ code: 0 });
    expect(second.err).toContain('is up already; nothing was done');
    expect(identities()).toEqual(all);
    const other = await up('--backend', 'auto');
    expect(other.code).toBe(1);
    expect(other.err).toContain('backend is cpu, not auto');

    const seen = await status();
    expect(seen).toMatchObject({ state: 'up', cohort: 'READY' });
    expect((await fetch(String(seen.dashboard))).status).toBe(200);
    expect(seen.processes.map((p) => [p.name, p.alive, p.restarts])).toEqual(
      ['redis', 's3', 'aggregator', 'scheduler', 'dashboard', 'rank-0', 'rank-1'].map((name) => [
        name,
        true,
        0,
      ]),
    );

    const ended = await local('down');
    expect(ended.out.match(/stopped [\w-]+/g)).toEqual(
      ['rank-0', 'rank-1', 'dashboard', 'scheduler', 'aggregator', 's3', 'redis'].map(
        (name) => `stopped ${name}`,
      ),
    );
    expect(all.some(isAlive)).toBe(false);
    expect(existsSync(join(dir, 'local.json'))).toBe(false);
    expect((await local('down')).out).toContain('nothing was up');
    expect((await local('status')).code).toBe(1);
  });

  test('after the supervisor was killed, up ends the orphans, keeps addresses and data, and serves', async () => {
    expect((await up()).code).toBe(0);
    const before = identities();
    const settings = readFileSync(join(dir, 'local.json'), 'utf8');
    const store = new ObjectStore(loadConfig({ environment: {}, directory: work }));
    try {
      await store.create('kept', 'data');
      process.kill(before[0]?.pid ?? -1, 'SIGKILL');
      const again = await up();
      expect(again.err).toContain('ended what a crashed supervisor had left');
      expect(again.code).toBe(0);
      expect(before.some(isAlive)).toBe(false);
      expect(readFileSync(join(dir, 'local.json'), 'utf8')).toBe(settings);
      expect((await store.get('kept')).toString()).toBe('data');
    } finally {
      store.close();
    }
  });

  test('a killed rank brings the whole cohort back; the others stay', async () => {
    expect((await up()).code).toBe(0);
    const before = await status();
    const pid = (s: LocalStatus, name: string): number | undefined =>
      s.processes.find((p) => p.name === name)?.pid;
    process.kill(pid(before, 'rank-1') ?? -1, 'SIGKILL');
    const deadline = Date.now() + 60_000;
    let now = await status();
    while (
      now.processes.at(-1)?.restarts !== 1 ||
      now.cohort !== 'READY' ||
      now.processes.some((p) => !p.alive)
    ) {
      if (Date.now() > deadline) throw new Error(`the cohort did not come back: ${JSON.stringify(now)}`);
      now = await status();
    }
    for (const name of ['rank-0', 'rank-1']) expect(pid(now, name)).not.toBe(pid(before, name));
    for (const name of ['redis', 's3', 'aggregator', 'scheduler', 'dashboard'])
      expect(pid(now, name)).toBe(pid(before, name));
  });

  test('up that cannot succeed says why and leaves nothing', async () => {
    const none = await local('up', '--model', join(work, 'nowhere'));
    expect(none.code).toBe(1);
    expect(none.err).toContain('has no config.json');
    await rm(join(model, 'model.safetensors'));
    const failed = await up();
    expect(failed.code).toBe(1);
    expect(failed.err).toMatch(
      /rank-\d was restarted \d times; it ended with exit code 1\. The end of .*rank-\d\.log/,
    );
    expect((await local('status')).out).toContain('down');
  });
});
