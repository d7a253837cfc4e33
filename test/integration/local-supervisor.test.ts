import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { markerName } from '../../src/local/orphans.js';
import { childEnvironment } from '../../src/platform/config.js';
import { down } from '../../src/local/down.js';
import { layout, type Layout } from '../../src/local/layout.js';
import { isAlive, type ProcessIdentity } from '../../src/local/process-identity.js';
import {
  readJson,
  stackState,
  writeJson,
  type GroupSpec,
  type StackState,
} from '../../src/local/state-files.js';
import { localStatus } from '../../src/local/status.js';
import { endProcess, freePort, tempDir, trackLeaks } from '../support/services.js';
import { watch } from '../support/leaks.js';
import { compiled } from '../support/compiled.js';

// Stand-ins for what a stack runs: the supervisor knows nothing but the plan of its folder.
const standIns = {
  /** Lives until SIGTERM. */
  quiet: `setInterval(() => {}, 1000)`,
  /** Like a rank: ends with 75 by itself 200 ms after SIGUSR2, as when it finds its communicator lost. */
  rank: `setInterval(() => {}, 1000); process.on('SIGUSR2', () => setTimeout(() => process.exit(75), 200)); console.log('up')`,
  stubborn: `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('up')`,
  failing: `process.exit(3)`,
};

trackLeaks();
let dir: string;
let paths: Layout;
let supervisor: ChildProcess | undefined;

beforeEach(async () => {
  dir = await tempDir('longhaul-local-');
  paths = layout(dir);
  mkdirSync(paths.logs, { recursive: true });
});
afterEach(async () => {
  await down(dir, () => undefined);
  if (supervisor) await endProcess(supervisor, 'SIGKILL');
  supervisor = undefined;
  rmSync(dir, { recursive: true, force: true });
});

function group(name: string, script: string, count = 1, more: Partial<GroupSpec> = {}): GroupSpec {
  const processes = Array.from({ length: count }, (_, i) => ({
    name: count === 1 ? name : `${name}-${i}`,
    command: process.execPath,
    args: ['-e', script],
    environment: {},
  }));
  return { name, processes, survivorMs: 1_000, stopMs: 3_000, ...more };
}

async function start(groups: GroupSpec[]): Promise<void> {
  writeJson(paths.plan, {
    version: 1,
    redisPort: 1,
    redisPassword: 'x',
    s3Port: 1,
    s3AccessKeyId: 'x',
    s3SecretAccessKey: 'x',
    settings: { redisUrl: 'redis://127.0.0.1:1' },
    groups,
  });
  const entry = compiled('src/local/supervisor.ts');
  const code = `const { supervise } = await import(${JSON.stringify(entry)});
    await supervise(${JSON.stringify(dir)}, { backoff: { firstMs: 50, lastMs: 400, healthyMs: 60000 } });`;
  supervisor = watch(
    spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: 'inherit',
      detached: true,
      env: childEnvironment({ [markerName]: dir }),
    }),
  );
  await until('all processes run', () => {
    const state = read();
    return state !== undefined && state.groups.every((g) => g.phase === 'running' || g.restarts > 0);
  });
}

const read = (): StackState | undefined => readJson(paths.state, stackState);
const pidsOf = (name: string): ProcessIdentity[] =>
  (read()?.groups.find((g) => g.name === name)?.processes ?? []).flatMap((p) => p.identity ?? []);
const restartsOf = (name: string): number => read()?.groups.find((g) => g.name === name)?.restarts ?? -1;
async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not in ${ms} ms: ${what}`);
    await sleep(20);
  }
}
/** Waits until these have installed their signal handlers; before that a signal has its default effect. */
const listening = (...names: string[]): Promise<void> =>
  until('their handlers are there', () =>
    names.every((name) => readFileSync(paths.log(name), 'utf8').includes('up')),
  );
async function kill(identity: ProcessIdentity | undefined, signal: NodeJS.Signals): Promise<void> {
  process.kill(identity?.pid ?? -1, signal);
  if (signal === 'SIGKILL') await until('it is gone', () => !identity || !isAlive(identity));
}

describe('restarts', () => {
  test('when one rank ends, all ranks start anew, and nothing else does', async () => {
    await start([group('redis', standIns.quiet), group('cohort', standIns.rank, 3)]);
    await listening('cohort-0', 'cohort-1', 'cohort-2');
    const [before, redis] = [pidsOf('cohort'), pidsOf('redis')];
    expect(before).toHaveLength(3);
    await kill(before[1], 'SIGKILL');
    // The survivors find out by themselves, as ranks do.
    await kill(before[0], 'SIGUSR2');
    await kill(before[2], 'SIGUSR2');
    await until('a new cohort', () => restartsOf('cohort') === 1 && pidsOf('cohort').length === 3);
    const after = pidsOf('cohort').map((p) => p.pid);
    expect(before.map((p) => p.pid).filter((pid) => after.includes(pid))).toEqual([]);
    expect(before.some(isAlive)).toBe(false);
    expect(pidsOf('redis')).toEqual(redis);
    expect(restartsOf('redis')).toBe(0);
    const exits = read()?.groups[1]?.processes.map((p) => p.lastExit);
    expect(exits).toEqual(['ended with exit code 75', 'ended by SIGKILL', 'ended with exit code 75']);
  });

  test('a rank that does not leave in time is killed', async () => {
    await start([group('cohort', standIns.quiet, 2)]);
    const before = pidsOf('cohort');
    const killedAt = Date.now();
    await kill(before[0], 'SIGKILL');
    await until('a new cohort', () => restartsOf('cohort') === 1 && pidsOf('cohort').length === 2);
    expect(Date.now() - killedAt).toBeGreaterThanOrEqual(1_000);
    expect(isAlive(before[1] as ProcessIdentity)).toBe(false);
  });

  test('what fails at once is tried less and less often', async () => {
    await start([group('bad', standIns.failing)]);
    await until('five restarts', () => restartsOf('bad') >= 5);
    // 50 + 100 + 200 + 400 + 400 ms of back-off lie before the sixth start.
    const state = read();
    expect(Date.now() - Date.parse(state?.since ?? '')).toBeGreaterThanOrEqual(1_000);
    expect(state?.groups[0]?.processes[0]?.lastExit).toBe('ended with exit code 3');
  });

  test('a command that does not exist is reported, not fatal', async () => {
    const missing = group('missing', '');
    missing.processes[0] = { name: 'missing', command: '/no/such/program', args: [], environment: {} };
    await start([group('redis', standIns.quiet), missing]);
    await until('a restart', () => restartsOf('missing') >= 1);
    expect(read()?.groups[1]?.processes[0]?.lastExit).toMatch(/could not be started: .*ENOENT/);
    expect(pidsOf('redis')).toHaveLength(1);
  });

  test('a group waits for the one before it', async () => {
    const port = await freePort();
    const late = `setTimeout(() => require('net').createServer().listen(${port}, '127.0.0.1'), 700)`;
    const begun = Date.now();
    await start([group('s3', late, 1, { ready: { kind: 'tcp', port } }), group('cohort', standIns.quiet)]);
    expect(Date.now() - begun).toBeGreaterThanOrEqual(700);
  });
});

describe('the end', () => {
  test('down stops in reverse order and leaves nothing; a second down says that nothing was up', async () => {
    const say = (name: string): string =>
      `process.on('SIGTERM', () => { require('fs').appendFileSync(${JSON.stringify(join(dir, 'order'))}, '${name} '); process.exit(0) }); setInterval(() => {}, 1000); console.log('up')`;
    await start([group('redis', say('redis')), group('s3', say('s3')), group('cohort', say('rank'), 2)]);
    await listening('redis', 's3', 'cohort-0', 'cohort-1');
    const all = ['redis', 's3', 'cohort'].flatMap(pidsOf);
    const { ended } = await down(dir, () => undefined);
    expect(ended.map((e) => e.split(' ')[0])).toEqual(['cohort-0', 'cohort-1', 's3', 'redis']);
    expect(all.some(isAlive)).toBe(false);
    expect(readFileSync(join(dir, 'order'), 'utf8')).toBe('rank rank s3 redis ');
    expect((await down(dir, () => undefined)).ended).toEqual([]);
    expect((await localStatus(dir)).state).toBe('down');
  });

  test('what ignores SIGTERM is killed at its limit', async () => {
    await start([group('cohort', standIns.stubborn, 2, { stopMs: 500 })]);
    await listening('cohort-0', 'cohort-1');
    const all = pidsOf('cohort');
    await down(dir, () => undefined);
    expect(all.some(isAlive)).toBe(false);
  });

  test('after SIGKILL of the supervisor, status says so and down ends the orphans', async () => {
    await start([group('redis', standIns.quiet), group('cohort', standIns.quiet, 2)]);
    const all = ['redis', 'cohort'].flatMap(pidsOf);
    await kill(read()?.supervisor, 'SIGKILL');
    expect(all.every(isAlive)).toBe(true);
    const status = await localStatus(dir);
    expect(status.state).toBe('crashed');
    expect(status.processes.map((p) => [p.name, p.alive])).toEqual([
      ['redis', true],
      ['cohort-0', true],
      ['cohort-1', true],
    ]);
    const { ended } = await down(dir, () => undefined);
    expect(ended).toHaveLength(3);
    expect(all.some(isAlive)).toBe(false);
  });

  test.runIf(process.platform === 'linux')(
    'an orphan that was never on record is found by its mark',
    async () => {
      await start([group('cohort', standIns.quiet)]);
      const [orphan] = pidsOf('cohort');
      await kill(read()?.supervisor, 'SIGKILL');
      rmSync(paths.state);
      expect((await down(dir, () => undefined)).ended).toEqual([
        `unrecorded process (process ${orphan?.pid})`,
      ]);
      expect(isAlive(orphan as ProcessIdentity)).toBe(false);
    },
  );

  test('a recorded pid that belongs to another process now is left alone', async () => {
    const stranger = watch(spawn(process.execPath, ['-e', standIns.quiet]));
    const identity = { pid: stranger.pid ?? -1, started: 'another time' };
    const processes = [{ name: 'redis', log: 'x', identity }];
    writeJson(paths.state, {
      supervisor: identity,
      since: new Date().toISOString(),
      groups: [{ name: 'redis', phase: 'running', restarts: 0, processes }],
    });
    expect((await down(dir, () => undefined)).ended).toEqual([]);
    expect(stranger.exitCode).toBeNull();
    await endProcess(stranger);
  });
});
