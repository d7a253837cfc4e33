/** The wall clock of a process that is not ours, moved by tests. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

export interface WallClock {
  /** Of the process. */
  environment: Record<string, string>;
  /** From now on it is off by so many milliseconds. */
  shift(ms: number): void;
}

/** Its files go into `dir`. Needs the C compiler that the native engine is built with. */
export async function makeWallClock(dir: string): Promise<WallClock> {
  const library = join(dir, 'clock.so');
  const file = join(dir, 'shift');
  const shift = (ms: number) => {
    const microseconds = Buffer.alloc(8);
    new BigInt64Array(microseconds.buffer, microseconds.byteOffset, 1)[0] = BigInt(ms) * 1000n;
    // In place: the process has mapped it.
    writeFileSync(file, microseconds, { flag: 'r+' });
  };
  writeFileSync(file, Buffer.alloc(8));
  await promisify(execFile)('cc', [
    '-shared',
    '-fPIC',
    '-O1',
    '-o',
    library,
    resolve('test/support/clock.c'),
  ]);
  return { environment: { LD_PRELOAD: library, CLOCK_SHIFT: file }, shift };
}
