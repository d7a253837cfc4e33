import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LonghaulError } from '../../platform/errors.js';
import { identify, isAlive, type ProcessIdentity } from '../process-identity.js';

/**
 * One server process per folder: conditional writes are atomic because one process decides. The lock
 * names its holder by pid and start time, so that a lock left by a killed process is recognised.
 */
export async function lockFolder(dir: string): Promise<() => Promise<void>> {
  await mkdir(dir, { recursive: true });
  const path = join(dir, 'server.lock');
  const mine = JSON.stringify(await identify(process.pid));
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      await writeFile(path, mine, { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = parse(await readFile(path, 'utf8').catch(() => ''));
    if (holder && (await isAlive(holder)))
      throw new LonghaulError(
        'S3_FOLDER_IN_USE',
        `The folder ${dir} is served by process ${holder.pid} already. Stop that one, or choose another folder.`,
      );
    await rm(path, { force: true });
  }
  throw new LonghaulError(
    'S3_FOLDER_IN_USE',
    `The lock ${path} could not be taken: other processes are after it too.`,
  );
}

function parse(text: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(text) as ProcessIdentity;
  } catch {
    return undefined;
  }
}
