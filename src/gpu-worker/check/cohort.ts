import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { BackendName } from '../engine/engine.js';
import type { Case } from './case.js';
import type { FromRank, RankResult, ToRank } from './messages.js';
import { ended, forkRanks, RankError, together, watch } from './rank-process.js';

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
  options.signal?.throwIfAborted();
  const children = forkRanks('rank', golden.input.ranks);
  const killAll = () => children.forEach((child) => child.kill('SIGKILL'));

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
    return await together(results, { ...options, what: golden.name, killAll });
  } finally {
    killAll();
    await Promise.all(children.map(ended));
  }
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
    watch(child, who, reject);
  });
}
