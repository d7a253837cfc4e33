/** What the checks share that fork rank processes. */
import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LonghaulError } from '../../platform/errors.js';

/** After the first failure the other ranks get this long to report theirs, which may be the cause. */
const graceMs = 1000;

export class RankError extends LonghaulError {
  constructor(
    message: string,
    /** The rank's own error code; unset: its process ended. */
    readonly reason?: string,
  ) {
    super('CHECK_RANK', message);
  }
}

/** Starts `count` processes of `<name>.js`: compiled, also when this module itself runs from its source (in tests). */
export function forkRanks(name: string, count: number): ChildProcess[] {
  const folder = import.meta.url.endsWith('.ts') ? '../../../dist/gpu-worker/check/' : './';
  const script = fileURLToPath(new URL(`${folder}${name}.js`, import.meta.url));
  if (!existsSync(script)) throw new LonghaulError('CHECK_RANK', `${script} is missing; run \`make build\``);
  return Array.from({ length: count }, () =>
    fork(script, { serialization: 'advanced', execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
  );
}

interface TogetherOptions {
  /** Named when the time is over. */
  what: string;
  timeoutMs: number;
  signal?: AbortSignal;
  killAll: () => void;
}

/**
 * What all ranks come to, in rank order. When one fails, hangs or `signal` aborts, all are killed.
 * @throws RankError of the rank at fault; LonghaulError CHECK_RANK after `timeoutMs`.
 */
export async function together<T>(
  results: Promise<T>[],
  { what, timeoutMs, signal, killAll }: TogetherOptions,
): Promise<T[]> {
  const errors: RankError[] = []; // in the order in which they happened, up to our own killing
  let killed = false;
  let late = false;
  const end = () => {
    killed = true;
    killAll();
  };
  const timers = [
    setTimeout(() => {
      late = true;
      end();
    }, timeoutMs),
  ];
  signal?.addEventListener('abort', end, { once: true });
  try {
    if (signal?.aborted) end();
    for (const result of results) {
      result.catch((error: RankError) => {
        if (killed) return;
        errors.push(error);
        timers.push(setTimeout(end, graceMs));
      });
    }
    const settled = await Promise.allSettled(results);

    signal?.throwIfAborted();
    if (late) {
      throw new LonghaulError(
        'CHECK_RANK',
        `${what} did not finish in ${timeoutMs} ms; its ranks were ended`,
      );
    }
    if (errors.length > 0) throw cause(errors);
    return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  } finally {
    signal?.removeEventListener('abort', end);
    timers.forEach(clearTimeout);
  }
}

/** A lost peer is what the others see of a rank that died or failed by itself: that one is told. */
function cause(errors: RankError[]): RankError {
  const rank = ({ reason }: RankError) => (reason === undefined ? 0 : reason === 'COMM_PEER_LOST' ? 2 : 1);
  return errors.reduce((best, error) => (rank(error) < rank(best) ? error : best));
}

/** Calls `onFailure` when the process ends or cannot be started. */
export function watch(child: ChildProcess, who: string, onFailure: (error: RankError) => void): void {
  child.once('error', (error) => onFailure(new RankError(`${who} could not be started: ${error.message}`)));
  child.once('exit', (code, signal) => {
    onFailure(
      new RankError(
        `${who} ended ${signal ? `by ${signal}` : `with exit code ${code}`} before it had a result`,
      ),
    );
  });
}

export function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined)
    return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}
