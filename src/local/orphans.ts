import { readdirSync, readFileSync } from 'node:fs';
import type { Layout } from './layout.js';
import { identify, isAlive, sendSignal, waitGone, type ProcessIdentity } from './process-identity.js';
import { readJson, stackState } from './state-files.js';

/** Environment variable that marks every process of a local stack with its folder, so that none can be lost. */
export const markerName = 'LH_LOCAL_DIR';

export interface Orphan {
  name: string;
  identity: ProcessIdentity;
}

/**
 * What is left of a stack whose supervisor is gone: the processes on its record, and, on Linux, any
 * that carry the folder's mark in their environment (one may have been started in the very moment in
 * which the supervisor was killed, before it was on record). Those that use others come first.
 */
export function findOrphans(paths: Layout): Orphan[] {
  const recorded = (readJson(paths.state, stackState)?.groups ?? [])
    .reverse()
    .flatMap((group) => group.processes)
    .flatMap(({ name, identity }) => (identity && isAlive(identity) ? [{ name, identity }] : []));
  const known = new Set(recorded.map((o) => o.identity.pid));
  const marked = markedProcesses(paths.dir).filter((o) => !known.has(o.identity.pid));
  return [...marked, ...recorded];
}

function markedProcesses(dir: string): Orphan[] {
  if (process.platform !== 'linux') return [];
  const mark = `${markerName}=${dir}`;
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(mark)) return [];
      return [{ name: 'unrecorded process', identity: identify(pid) }];
    } catch {
      // Gone by now, or another user's.
      return [];
    }
  });
}

/** Ends them one group of equals after the other; SIGKILL for those that do not go. Returns what was ended. */
export async function endOrphans(orphans: Orphan[], graceMs = 10_000): Promise<string[]> {
  // Ranks and aggregator together, then S3, then Redis, so that the first can still give back their work.
  const stages: Orphan[][] = [[], [], []];
  for (const orphan of orphans)
    stages[orphan.name === 'redis' ? 2 : orphan.name === 's3' ? 1 : 0]?.push(orphan);
  const ended: string[] = [];
  for (const stage of stages) {
    await Promise.all(
      stage.map(async ({ name, identity }) => {
        sendSignal(identity, 'SIGTERM');
        // A stopped process does not see SIGTERM.
        sendSignal(identity, 'SIGCONT');
        const willingly = await waitGone(identity, graceMs);
        if (!willingly) {
          sendSignal(identity, 'SIGKILL');
          await waitGone(identity, 5_000);
        }
        ended.push(`${name} (process ${identity.pid}${willingly ? '' : ', killed'})`);
      }),
    );
  }
  return ended;
}
