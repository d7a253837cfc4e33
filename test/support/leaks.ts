import type { ChildProcess } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach } from 'vitest';

export interface Service {
  name: string;
  stop(): Promise<void>;
}

/** Every service that was started and not stopped yet. */
export const running = new Set<Service>();
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Has a child ended with this process at the latest. */
export function watch(child: ChildProcess): ChildProcess {
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** Child processes of this test process, by pid (Linux; elsewhere only those started here). */
async function childProcesses(): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  if (process.platform !== 'linux') {
    for (const child of children) found.set(child.pid ?? -1, child.spawnfile);
    return found;
  }
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (parent !== String(process.pid) || state === 'Z') continue;
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    found.set(Number(name), command.replaceAll('\0', ' ').trim());
  }
  return found;
}

/**
 * Call once in a test file (or a describe): a test fails when a service or child process that it
 * started is still alive at its end. What was started in beforeAll is not the test's.
 */
export function trackLeaks(): void {
  let servicesBefore = new Set<Service>();
  let childrenBefore = new Map<number, string>();
  beforeEach(async () => {
    servicesBefore = new Set(running);
    childrenBefore = await childProcesses();
  });
  afterEach(async () => {
    const services = [...running].filter((s) => !servicesBefore.has(s));
    for (const service of services) await service.stop();
    const isNew = ([pid]: [number, string]): boolean => !childrenBefore.has(pid);
    // A child that is just ending gets a moment.
    let leaked = [...(await childProcesses())].filter(isNew);
    for (let i = 0; i < 20 && leaked.length > 0; i++) {
      await sleep(50);
      leaked = [...(await childProcesses())].filter(isNew);
    }
    for (const [pid] of leaked) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    const names = [
      ...services.map((s) => s.name),
      ...leaked.map(([pid, command]) => `process ${pid}: ${command}`),
    ];
    if (names.length > 0) throw new Error(`left behind by the test:\n  ${names.join('\n  ')}`);
  });
}
