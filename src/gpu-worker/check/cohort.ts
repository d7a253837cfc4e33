import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LonghaulError } from '../../platform/errors.js';
import type { BackendName } from '../engine/engine.js';
import type { Case } from './case.js';
import type { FromRank, RankResult, ToRank } from './messages.js';

/** Compiled, also when this module itself runs from its source (in tests). */
const script = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts') ? '../../../dist/gpu-worker/check/rank.js' : './rank.js',
    import.meta.url,
  ),
);

/** After the first failure the other ranks get this long to report theirs, which may be the cause. */
const graceMs = 1000;

export interface CohortOptions {
  backend: BackendName;
  threads: number;
  /** The end of a case whose ranks all hang. */
  timeoutMs: number;
  signal?: AbortSignal;
  /** Tests: sees every rank process as it starts. */
  onSpawn?: (rank: number, child: ChildProcess) => void;
}

/**
 * Runs a case on one process per rank, over tcp, and returns the ranks' results in rank order.
 * @throws LonghaulError CHECK_RANK when a process dies, hangs or fails; no process is left behind.
 */
export async function runCohort(golden: Case, options: CohortOptions): Promise<RankResult[]> {
  if (!existsSync(script)) throw new LonghaulError('CHECK_RANK', `${script} is missing; run \`make build\``);
  options.signal?.throwIfAborted();
  const children = Array.from({ length: golden.input.ranks }, () =>
    fork(script, { serialization: 'advanced', execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
  );
  const errors: RankError[] = []; // in the order in which they happened, up to our own killing
  let killed = false;
  const killAll = () => {
    killed = true;
    children.forEach((child) => child.kill('SIGKILL'));
  };
  const timers: NodeJS.Timeout[] = [];
  options.signal?.addEventListener('abort', killAll, { once: true });
  let late = false;
  timers.push(
    setTimeout(() => {
      late = true;
      killAll();
    }, options.timeoutMs),
  );

  try {
    const ports = new Map<number, number>();
    const listening = (rank: number, port: number) => {
      ports.set(rank, port);
      if (ports.size < children.length) return;
      const peers = children.map((_, r) => `127.0.0.1:${ports.get(r)}`);
      const secret = randomBytes(32).toString('hex');
      children.forEach((child) => post(child, { kind: 'connect', peers, secret }));
    };
    const results = children.map((child, rank) => {
      options.onSpawn?.(rank, child);
      post(child, {
        kind: 'start',
        rank,
        modelDir: golden.modelDir,
        input: golden.input,
        tokens: golden.expected.tokens,
        backend: options.backend,
        threads: options.threads,
      });
      return resultOf(child, `rank ${rank} of ${golden.name}`, (port) => listening(rank, port));
    });
    for (const result of results) {
      result.catch((error: RankError) => {
        if (killed) return;
        errors.push(error);
        timers.push(setTimeout(killAll, graceMs));
      });
    }
    const settled = await Promise.allSettled(results);

    options.signal?.throwIfAborted();
    if (late) {
      throw new LonghaulError(
        'CHECK_RANK',
        `${golden.name} did not finish in ${options.timeoutMs} ms; its ranks were ended`,
      );
    }
    if (errors.length > 0) throw cause(errors);
    return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  } finally {
    options.signal?.removeEventListener('abort', killAll);
    timers.forEach(clearTimeout);
    killAll();
    await Promise.all(children.map(ended));
  }
}

class RankError extends LonghaulError {
  constructor(
    message: string,
    /** The rank's own error code; unset: its process ended. */
    readonly reason?: string,
  ) {
    super('CHECK_RANK', message);
  }
}

/** A lost peer is what the others see of a rank that died or failed by itself: that one is told. */
function cause(errors: RankError[]): RankError {
  const rank = ({ reason }: RankError) => (reason === undefined ? 0 : reason === 'COMM_PEER_LOST' ? 2 : 1);
  return errors.reduce((best, error) => (rank(error) < rank(best) ? error : best));
}

function post(child: ChildProcess, message: ToRank): void {
  child.send(message, () => undefined); // a child that is gone is reported by its exit
}

function resultOf(
  child: ChildProcess,
  who: string,
  onListening: (port: number) => void,
): Promise<RankResult> {
  return new Promise((resolve, reject) => {
    child.on('message', (message: FromRank) => {
      if (message.kind === 'listening') onListening(message.port);
      else if (message.kind === 'done') resolve(message.result);
      else reject(new RankError(`${who} failed: ${message.message} (${message.code})`, message.code));
    });
    child.once('error', (error) => reject(new RankError(`${who} could not be started: ${error.message}`)));
    child.once('exit', (code, signal) => {
      reject(
        new RankError(
          `${who} ended ${signal ? `by ${signal}` : `with exit code ${code}`} before it had a result`,
        ),
      );
    });
  });
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined)
    return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}
