import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { LonghaulError } from '../../platform/errors.js';
import {
  planLayout,
  type BackendName,
  type LayoutOptions,
  type Precision,
  type Rates,
  type Select,
} from '../engine/engine.js';
import type { FromConfirmRank, ToConfirmRank } from './confirm-messages.js';
import { ended, forkRanks, RankError, together, watch } from './rank-process.js';

export interface ConfirmRanksOptions {
  ranks: number;
  modelDir: string;
  /** Of each rank. */
  threads: number;
  /** The CPU's unless given. */
  backend?: BackendName;
  /** Of the CPU's linear layers; float32 unless given. */
  precision?: Precision;
  /** The end of a document whose ranks all hang. */
  timeoutMs: number;
  signal?: AbortSignal;
  /** Tests: sees every rank process as it starts. */
  onSpawn?: (rank: number, child: ChildProcess) => void;
}

interface Reading {
  layout: LayoutOptions;
  document: Uint32Array;
  query: Uint32Array;
}

interface Question extends Reading {
  maxNewTokens: number;
  eos: number[];
}

type Reply = Exclude<FromConfirmRank, { kind: 'failed' }>;

/** Rank processes of this machine that stay for many documents. Whoever starts them disposes of them. */
export class ConfirmRanks {
  /** The backend's description. */
  backend = '';
  /** What connects the ranks: solo, tcp or nccl. */
  comm = '';
  /** Of the model. */
  vocabulary = 0;
  private readonly processes: RankProcess[];

  private constructor(private readonly options: ConfirmRanksOptions) {
    this.processes = forkRanks('confirm-rank', options.ranks).map(
      (child, rank) => new RankProcess(child, `rank ${rank} of ${options.ranks}`),
    );
    this.processes.forEach(({ child }, rank) => options.onSpawn?.(rank, child));
  }

  /** @throws LonghaulError CHECK_RANK when a rank cannot load the model or connect; none is left then. */
  static async start(options: ConfirmRanksOptions): Promise<ConfirmRanks> {
    options.signal?.throwIfAborted();
    const cohort = new ConfirmRanks(options);
    try {
      const { ranks, modelDir, threads, backend = 'cpu', precision = 'float32' } = options;
      const started = await cohort.ask('started', (rank) => ({
        kind: 'start',
        rank,
        ranks,
        modelDir,
        threads,
        backend,
        precision,
      }));
      cohort.backend = started[0]?.backend ?? '';
      cohort.vocabulary = started[0]?.vocabulary ?? 0;
      const peers = ranks === 1 ? ['alone:0'] : started.map(({ port }) => `127.0.0.1:${port}`);
      const secret = ranks === 1 ? '' : randomBytes(32).toString('hex');
      const connected = await cohort.ask('connected', () => ({ kind: 'connect', peers, secret }));
      cohort.comm = connected[0]?.comm ?? '';
      return cohort;
    } catch (error) {
      await cohort.dispose();
      throw error;
    }
  }

  /** Reads a document on all ranks and answers its question, greedily. */
  async answer({ layout, document, query, maxNewTokens, eos }: Question): Promise<number[]> {
    const partOf = partsOf({ layout, document, query });
    const replies = await this.ask('answered', (rank) => ({
      kind: 'answer',
      ...partOf(rank),
      maxNewTokens,
      eos,
    }));
    const [first = '', ...others] = replies.map(({ tokens }) => tokens.join(' '));
    const other = others.find((tokens) => tokens !== first);
    if (other !== undefined) {
      throw new LonghaulError(
        'CHECK_RANK',
        `the ranks decoded different tokens of one answer: ${first} and ${other}; run the golden cases (longhaul engine check)`,
      );
    }
    return [...(replies[0]?.tokens ?? [])];
  }

  /** Reads a document on all ranks once, and says what each of them needed. */
  async measure(reading: Reading & { select?: Select }): Promise<Extract<Reply, { kind: 'measured' }>[]> {
    const partOf = partsOf(reading);
    const { select = 'heads' } = reading;
    return this.ask('measured', (rank) => ({ kind: 'measure', select, ...partOf(rank) }));
  }

  /** How fast each rank's layers are by themselves. */
  async rates(): Promise<Rates[]> {
    return (await this.ask('rated', () => ({ kind: 'rates' }))).map(({ rates }) => rates);
  }

  async dispose(): Promise<void> {
    this.killAll();
    await Promise.all(this.processes.map(({ child }) => ended(child)));
  }

  private killAll(): void {
    this.processes.forEach(({ child }) => child.kill('SIGKILL'));
  }

  private async ask<K extends Reply['kind']>(
    kind: K,
    request: (rank: number) => ToConfirmRank,
  ): Promise<Extract<Reply, { kind: K }>[]> {
    const { timeoutMs, signal } = this.options;
    const replies = await together(
      this.processes.map((each, rank) => each.ask(request(rank))),
      {
        what: 'a document',
        timeoutMs,
        ...(signal && { signal }),
        killAll: () => this.killAll(),
      },
    );
    return replies.map((reply) => {
      if (reply.kind !== kind) throw new Error(`expected the reply ${kind}, got ${reply.kind}`);
      return reply as Extract<Reply, { kind: K }>;
    });
  }
}

/** What each rank is given of a document. */
function partsOf({ layout, document, query }: Reading) {
  const plan = planLayout(layout);
  const head = document.slice(0, plan.anchorDocument);
  return (rank: number) => {
    const pieces = [plan.blocks[rank], plan.mirrors[rank]];
    const block = Uint32Array.from(pieces.flatMap((piece) => [...document.slice(piece?.start, piece?.end)]));
    return { layout, head, block, query };
  };
}

/** One rank: a request, its reply, the next request. */
class RankProcess {
  private waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void } | undefined;
  private failure: RankError | undefined;

  constructor(
    readonly child: ChildProcess,
    private readonly who: string,
  ) {
    const fail = (error: RankError) => {
      this.failure ??= error;
      this.waiting?.reject(error);
    };
    child.on('message', (message: FromConfirmRank) => {
      if (message.kind === 'failed')
        fail(new RankError(`${this.who} failed: ${message.message} (${message.code})`, message.code));
      else this.waiting?.resolve(message);
    });
    watch(child, who, fail);
  }

  ask(request: ToConfirmRank): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      if (this.failure) reject(this.failure);
      else this.child.send(request, () => undefined); // a child that is gone is reported by its exit
    });
  }
}

/** Disposes of the ranks whatever `use` comes to. @throws LonghaulError CHECK_RANK like `start` */
export async function withConfirmRanks<T>(
  options: ConfirmRanksOptions,
  use: (cohort: ConfirmRanks) => Promise<T>,
): Promise<T> {
  const cohort = await ConfirmRanks.start(options);
  try {
    return await use(cohort);
  } finally {
    await cohort.dispose();
  }
}
