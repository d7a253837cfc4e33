/**
 * The native engine of an installed package: its sources come along and are built once, when it is first needed, so
 * that who only submits needs no compiler, and who runs ranks gets what fits the machine.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { childEnvironment } from '../platform/config.js';
import { LonghaulError } from '../platform/errors.js';
import { packageRoot } from './layout.js';
import { lockFile } from './lock-file.js';

const REMEDY =
  'It takes make and a C++20 compiler. Debian/Ubuntu: apt-get install g++ make; macOS: xcode-select --install. ' +
  'Then run `longhaul engine build`';

export interface BuildOptions {
  /** Files compiled; first with `done` 0. */
  onProgress: (progress: { done: number; total: number }) => void;
  signal: AbortSignal;
}

export const addonPath = join(packageRoot, 'build', 'native', 'longhaul.node');

export const engineIsBuilt = (): boolean => existsSync(addonPath);

/**
 * Runs the native Makefile, which compiles what is missing or out of date.
 * @throws LonghaulError `ENGINE_BUILD` with the end of what the compiler said, and the remedy; `ENGINE_BUILDING` when
 * another process does it already.
 */
export async function buildEngine({ onProgress, signal }: BuildOptions): Promise<void> {
  const folder = dirname(addonPath);
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new LonghaulError(
      'ENGINE_BUILD',
      `${folder} cannot be made: run \`longhaul engine build\` once as the user who installed longhaul`,
      { cause },
    );
  }
  const release = await lockFile(
    join(folder, 'build.lock'),
    (pid) =>
      new LonghaulError(
        'ENGINE_BUILDING',
        `process ${pid} builds the native engine; wait for it, then try again`,
      ),
  );
  try {
    let total = 0;
    await make(['--dry-run', ...variables()], signal, () => (total += 1));
    let done = 0;
    onProgress({ done, total });
    await make([`-j${availableParallelism()}`, ...variables()], signal, () =>
      onProgress({ done: ++done, total }),
    );
  } finally {
    await release();
  }
}

/** Where npm has put the headers that the addon includes: beside this package or above it. */
function variables(): string[] {
  const { resolve } = createRequire(import.meta.url);
  const folder = (name: string) => dirname(resolve(`${name}/package.json`));
  return [`NODE_ADDON_API=${folder('node-addon-api')}`, `NODE_API_HEADERS=${folder('node-api-headers')}`];
}

/** `onCompile`: for each file that is, or with `--dry-run` would be, compiled. */
async function make(args: string[], signal: AbortSignal, onCompile: () => void): Promise<void> {
  const child = spawn('make', ['-C', join(packageRoot, 'native'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // A make above us may be a silent one: the lines that count files would not come.
    env: childEnvironment({ MAKEFLAGS: '' }),
    signal,
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.includes(' -c -o ')) onCompile();
  });
  let said = '';
  child.stderr.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-2000)));
  let code: number | null;
  try {
    code = await ended;
  } catch (cause) {
    if (signal.aborted)
      throw new LonghaulError('INTERRUPTED', 'interrupted; the files compiled so far stay', { cause });
    throw new LonghaulError('ENGINE_BUILD', `make cannot be run. ${REMEDY}`, { cause });
  }
  if (code !== 0)
    throw new LonghaulError(
      'ENGINE_BUILD',
      `the native engine could not be built. ${REMEDY}. make said:\n${said.trim()}`,
    );
}
