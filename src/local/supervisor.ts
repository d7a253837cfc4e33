import { mkdirSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { layout } from './layout.js';
import { ProcessGroup, type Backoff } from './process-group.js';
import { identify, isAlive } from './process-identity.js';
import { canConnect } from './reach.js';
import { pingRedis } from './redis-server.js';
import {
  readJson,
  stackPlan,
  stackState,
  writeJson,
  type GroupSpec,
  type StackState,
} from './state-files.js';

/**
 * The one process that `local up` leaves in the background: it runs the plan of its folder until
 * SIGTERM, restarting what dies. It knows nothing about longhaul beyond the plan.
 */
export async function supervise(folder: string, options: { backoff?: Backoff } = {}): Promise<void> {
  const paths = layout(folder);
  const plan = readJson(paths.plan, stackPlan);
  if (!plan) throw new ConfigError(`${paths.plan} does not exist; start with \`longhaul local up\`.`);
  const other = readJson(paths.state, stackState);
  if (other && isAlive(other.supervisor))
    throw new LonghaulError('LOCAL_UP', `Process ${other.supervisor.pid} supervises ${paths.dir} already.`);
  mkdirSync(paths.logs, { recursive: true });

  const supervisor = identify(process.pid);
  const since = new Date().toISOString();
  const report = (text: string): void => void process.stderr.write(`${new Date().toISOString()} ${text}\n`);
  const groups = plan.groups.map(
    (spec) =>
      new ProcessGroup({ spec, logOf: paths.log, onChange: () => save(), report, backoff: options.backoff }),
  );
  const save = (): void => {
    const state: StackState = { supervisor, since, groups: groups.map((g) => g.state()) };
    writeJson(paths.state, state);
  };
  // Whatever ends this process in an orderly way or by a bug, nothing of it stays.
  const killAll = (): void => groups.forEach((g) => g.killNow());
  process.on('exit', killAll);
  const { signal, dispose } = shutdownSignal();
  const running: { stop: AbortController; done: Promise<void> }[] = [];
  try {
    save();
    for (const group of groups) {
      if (signal.aborted) break;
      const stop = new AbortController();
      running.push({ stop, done: group.run(stop.signal) });
      await untilReady(group.spec.ready, signal);
    }
    await Promise.race([aborted(signal), ...running.map((r) => r.done)]);
    report('stopping');
  } finally {
    // In reverse: first those that use the others.
    for (const { stop, done } of running.reverse()) {
      stop.abort();
      await done.catch((error: unknown) => report(`not stopped cleanly: ${String(error)}`));
    }
    killAll();
    process.off('exit', killAll);
    dispose();
    rmSync(paths.state, { force: true });
    report('everything has stopped');
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** No deadline here: whoever waits for the stack has one, and those started too early only start again. */
async function untilReady(ready: GroupSpec['ready'], signal: AbortSignal): Promise<void> {
  if (!ready) return;
  const check =
    ready.kind === 'redis' ? () => pingRedis(ready.port, ready.password) : () => canConnect(ready.port);
  while (!signal.aborted && !(await check())) await sleep(50);
}
