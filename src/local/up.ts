import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { childEnvironment, loadConfig } from '../platform/config.js';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import { downLocked } from './down.js';
import { layout, packageRoot, type Layout } from './layout.js';
import { lockCommands } from './lock-commands.js';
import { endOrphans, findOrphans, markerName } from './orphans.js';
import { isAlive } from './process-identity.js';
import { keep, makePlan, settingsOf, type StackOptions } from './plan.js';
import { waitReady } from './readiness.js';
import { findRedisServer } from './redis-server.js';
import { readJson, stackPlan, stackState, writeJson, type StackPlan } from './state-files.js';

export interface UpOptions extends StackOptions {
  folder: string;
  timeoutMs: number;
  report: (text: string) => void;
  signal: AbortSignal;
}

export interface UpResult {
  /** `already`: it was up with the same options, nothing was done. */
  outcome: 'started' | 'already';
  dir: string;
  redisUrl: string;
  s3Endpoint: string;
  s3Bucket: string;
  dashboard: string;
  settingsFile: string;
  logs: string[];
}

/** Starts the stack of a folder and returns when it serves. On failure nothing of it stays. */
export async function up(options: UpOptions): Promise<UpResult> {
  const paths = layout(options.folder);
  const stack: StackOptions = { ...options, modelDir: resolve(options.modelDir) };
  if (!existsSync(join(stack.modelDir, 'config.json')))
    throw new ConfigError(
      `${stack.modelDir} is no model: it has no config.json. Name a model directory with --model.`,
    );
  mkdirSync(paths.dir, { recursive: true, mode: 0o700 });
  const release = await lockCommands(paths);
  try {
    const former = readJson(paths.plan, stackPlan);
    const state = readJson(paths.state, stackState);
    if (former && state && isAlive(state.supervisor)) return alreadyUp(paths, former, stack, options.report);
    const ended = await endOrphans(findOrphans(paths));
    if (ended.length > 0) options.report(`ended what a crashed supervisor had left: ${ended.join(', ')}`);

    const plan = makePlan(paths, await keep(former), stack, await findRedisServer());
    writePlan(paths, plan);
    const since = Date.now();
    try {
      await startSupervisor(paths, options.signal);
      const { timeoutMs, report, signal } = options;
      const config = loadConfig({ flags: plan.settings, environment: {}, directory: paths.dir });
      await waitReady({ paths, plan, config, since, timeoutMs, report, signal });
      writeJson(paths.settings, plan.settings);
    } catch (error) {
      options.report('stopping what was started');
      await downLocked(paths, () => undefined);
      if (options.signal.aborted)
        throw new LonghaulError('INTERRUPTED', 'interrupted; what was started has been stopped', {
          cause: error,
        });
      throw error;
    }
    return resultOf('started', paths, plan);
  } finally {
    await release();
  }
}

function writePlan(paths: Layout, plan: StackPlan): void {
  for (const dir of [paths.redis, paths.s3, paths.logs]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  // In a file, because arguments show in `ps`.
  writeFileSync(paths.redisConfig, `requirepass ${plan.redisPassword}\n`, { mode: 0o600 });
  writeJson(paths.s3Credentials, {
    accessKeyId: plan.s3AccessKeyId,
    secretAccessKey: plan.s3SecretAccessKey,
  });
  writeJson(paths.plan, plan);
}

async function startSupervisor(paths: Layout, signal: AbortSignal): Promise<void> {
  const log = openSync(paths.log('supervisor'), 'a', 0o600);
  try {
    const args = [join(packageRoot, 'bin', 'longhaul.js'), 'local', 'supervise', '--dir', paths.dir];
    const child = spawn(process.execPath, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: childEnvironment({ [markerName]: paths.dir }),
    });
    // It outlives this command: its own session, and nothing that keeps our event loop.
    child.unref();
    let ended = false;
    const exit = once(child, 'exit').then(
      () => (ended = true),
      () => (ended = true),
    );
    try {
      const deadline = performance.now() + 30_000;
      while (readJson(paths.state, stackState)?.supervisor.pid !== child.pid) {
        if (ended || performance.now() > deadline)
          throw new LonghaulError(
            'LOCAL_SUPERVISOR',
            `The supervisor did not start; see ${paths.log('supervisor')}.`,
          );
        await sleep(50, undefined, { signal });
      }
    } catch (error) {
      // It may not be on record yet, so that nobody else could find it.
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
      await exit;
      clearTimeout(timer);
      throw error;
    }
  } finally {
    closeSync(log);
  }
}

function alreadyUp(
  paths: Layout,
  former: StackPlan,
  wanted: StackOptions,
  report: (text: string) => void,
): UpResult {
  const settings = settingsOf({ ...former, dashboardPort: former.dashboardPort ?? 0 }, wanted);
  const names = new Set([...Object.keys(settings), ...Object.keys(former.settings)]);
  const different = [...names].filter((name) => settings[name] !== former.settings[name]);
  if (different.length > 0) {
    const changes = different.map((name) => `${name} is ${former.settings[name]}, not ${settings[name]}`);
    throw new LonghaulError(
      'LOCAL_UP',
      `The stack of ${paths.dir} is up already, with other options: ${changes.join('; ')}. Stop it first with \`longhaul local down\`.`,
    );
  }
  report(`the stack of ${paths.dir} is up already; nothing was done`);
  return resultOf('already', paths, former);
}

function resultOf(outcome: UpResult['outcome'], paths: Layout, plan: StackPlan): UpResult {
  return {
    outcome,
    dir: paths.dir,
    redisUrl: `redis://127.0.0.1:${plan.redisPort}`,
    s3Endpoint: `http://127.0.0.1:${plan.s3Port}`,
    s3Bucket: String(plan.settings['s3Bucket']),
    dashboard: `http://127.0.0.1:${plan.dashboardPort}`,
    settingsFile: paths.settings,
    logs: ['supervisor', ...plan.groups.flatMap((g) => g.processes.map((p) => p.name))].map(paths.log),
  };
}
