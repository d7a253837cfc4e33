import { existsSync, rmSync } from 'node:fs';
import { layout, type Layout } from './layout.js';
import { lockCommands } from './lock-commands.js';
import { endOrphans, findOrphans } from './orphans.js';
import { isAlive, sendSignal, waitGone } from './process-identity.js';
import { readJson, stackPlan, stackState } from './state-files.js';

export interface DownResult {
  /** What was running and has ended, in words. Empty: nothing was up. */
  ended: string[];
}

/** Stops the stack of a folder: ranks, aggregator, S3, Redis. Returns when no process of it is left. */
export async function down(folder: string, report: (text: string) => void): Promise<DownResult> {
  const paths = layout(folder);
  if (!existsSync(paths.dir)) return { ended: [] };
  const release = await lockCommands(paths);
  try {
    return await downLocked(paths, report);
  } finally {
    await release();
  }
}

/** Like `down`, for a caller that holds the lock. */
export async function downLocked(paths: Layout, report: (text: string) => void): Promise<DownResult> {
  // First, so that no command that starts now uses what is about to go.
  rmSync(paths.settings, { force: true });
  const ended: string[] = [];
  const state = readJson(paths.state, stackState);
  if (state && isAlive(state.supervisor)) {
    const groups = readJson(paths.plan, stackPlan)?.groups ?? [];
    // Each group may take its time to stop, then is killed; one more second each for the processes to go.
    const patience = groups.reduce((sum, g) => sum + g.stopMs + 1_000, 10_000);
    report(
      `stopping ${state.groups
        .map((g) => g.name)
        .reverse()
        .join(', ')}`,
    );
    const before = state.groups
      .reverse()
      .flatMap((g) => g.processes)
      .flatMap(({ name, identity }) => (identity && isAlive(identity) ? [{ name, identity }] : []));
    sendSignal(state.supervisor, 'SIGTERM');
    if (!(await waitGone(state.supervisor, patience))) {
      report(
        `the supervisor (process ${state.supervisor.pid}) did not end in ${patience / 1000} s; it is killed`,
      );
      sendSignal(state.supervisor, 'SIGKILL');
      await waitGone(state.supervisor, 5_000);
    }
    ended.push(
      ...before.filter((p) => !isAlive(p.identity)).map((p) => `${p.name} (process ${p.identity.pid})`),
    );
  }
  ended.push(...(await endOrphans(findOrphans(paths))));
  rmSync(paths.state, { force: true });
  return { ended };
}
