import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LonghaulError } from '../platform/errors.js';
import { identify, isAlive, type ProcessIdentity } from './process-identity.js';

/**
 * A file that one living process holds. It names its holder by pid and start time, so that what a
 * killed process left is recognised and taken over.
 * @throws LonghaulError from `busy` when another process holds it.
 */
export async function lockFile(
  path: string,
  busy: (pid: number) => LonghaulError,
): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const mine = JSON.stringify(identify(process.pid));
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      await writeFile(path, mine, { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = parse(await readFile(path, 'utf8').catch(() => ''));
    if (holder && isAlive(holder)) throw busy(holder.pid);
    await rm(path, { force: true });
  }
  throw new LonghaulError(
    'LOCK',
    `The lock ${path} could not be taken: other processes are after it too; try again.`,
  );
}

function parse(text: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(text) as ProcessIdentity;
  } catch {
    return undefined;
  }
}
