import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

/**
 * A process, told apart from a later one that got the same number: by its start time. Recorded in
 * files, so that what a crashed supervisor left behind can be ended without ending a stranger.
 */
export interface ProcessIdentity {
  pid: number;
  /** When it started, in the kernel's own words; compared for equality only. */
  started: string;
}

async function startOf(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') {
    let stat: string;
    try {
      stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    } catch {
      return undefined;
    }
    // The command name, in parentheses, may itself hold spaces and parentheses: fields count from the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, ticks] = [fields[0], fields[19]];
    // A zombie runs nothing and holds nothing; it only waits for its parent to look.
    if (state === 'Z' || state === 'X') return undefined;
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
    return `${boot.trim()}:${ticks}`;
  }
  try {
    const { stdout } = await promisify(execFile)('ps', ['-o', 'lstart=,state=', '-p', String(pid)]);
    const text = stdout.trim();
    return text === '' || / Z\S*$/.test(text) ? undefined : text.replace(/\s+\S+$/, '');
  } catch {
    return undefined;
  }
}

export async function identify(pid: number): Promise<ProcessIdentity> {
  return { pid, started: (await startOf(pid)) ?? 'gone' };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await startOf(identity.pid)) === identity.started;
}
