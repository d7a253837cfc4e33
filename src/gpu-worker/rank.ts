import type { Logger } from '../platform/logger.js';
import type { Config } from '../platform/config.js';
import type { Timings } from '../platform/timings.js';
import type { EngineLike } from './engine-like.js';
import type { Rates } from '../plan/blocks.js';
import { CohortLostError } from './errors.js';
import { prepareFailure, runFailure } from './failures.js';
import type { AbortCause, Ticket } from './messages.js';
import { prepareItem, type PrepareContext, type PreparedItem } from './prepare-item.js';
import type { Input } from './protocol-types.js';
import type { RankTimes } from '../contracts/timeline.js';
import type { Roster } from './rendezvous.js';
import { measureRun } from './measure-run.js';
import { now } from './wait.js';
import { runItem, type RunOutput } from './run-item.js';

export interface RankOptions {
  engine: EngineLike;
  context: Omit<PrepareContext, 'rates'>;
  timings: Timings;
  logger: Logger;
  comm: Pick<Config, 'comm' | 'nccl'>;
  /** A GPU waits at the end of each phase to measure it, so there it is not done. */
  measurePhases: boolean;
  dispatch: (input: Input) => void;
  onProgress: (progress: { phase: 'prefill' | 'decode'; done: number; total: number }) => void;
}

interface Hand {
  ticket: Ticket;
  begun: number;
  prepareMs: number;
  preparing: AbortController;
  stopping: AbortController;
  prepared: PreparedItem | null;
  output: RunOutput | null;
}

/** The engine's side of a rank, leader or follower: it does what the protocol says and tells it the result. */
export class Rank {
  private hand: Hand | null = null;
  private generation: string | null = null;
  /** What connects the ranks, once they are connected. */
  comm: string | undefined;
  /** By rank. */
  private rates: Rates[] = [];
  private readonly aborting = new AbortController();
  private busy: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: RankOptions,
    private stopTokens: number[] = [],
  ) {}

  connect(generation: string, roster: Roster, secret: string, stopTokens: number[]): void {
    const { engine, context, timings, dispatch, comm, logger } = this.options;
    this.stopTokens = stopTokens;
    this.generation = generation;
    const members = Array.from({ length: context.ranks }, (_, rank) => roster[rank]);
    const peers = members.map((member) => member?.address ?? '');
    this.rates = members.flatMap((member) => member?.rates ?? []);
    this.track(async () => {
      try {
        const { rank } = context;
        this.comm = await engine.connect({ rank, peers, secret, deadlineMs: timings.join, ...comm });
        logger.info({ generation, comm: this.comm }, 'ranks connected');
        dispatch({ type: 'connected', generation });
      } catch (error) {
        this.fault(error);
      }
    });
  }

  prepare(ticket: Ticket): void {
    const hand: Hand = {
      ticket,
      begun: now(),
      prepareMs: 0,
      preparing: new AbortController(),
      stopping: new AbortController(),
      prepared: null,
      output: null,
    };
    this.hand = hand;
    this.track(async () => {
      const { context, logger, dispatch } = this.options;
      try {
        hand.prepared = await prepareItem(
          { ...context, rates: this.rates },
          ticket.batch,
          ticket.item,
          hand.preparing.signal,
        );
        hand.prepareMs = now() - hand.begun;
        dispatch({ type: 'prepareEnded', run: ticket.run, failure: null });
      } catch (error) {
        if (hand.preparing.signal.aborted) return;
        const { generation } = this;
        logger.warn({ err: error, generation, ...ticket }, 'item not prepared');
        dispatch({ type: 'prepareEnded', run: ticket.run, failure: prepareFailure(error) });
      }
    });
  }

  /** What was prepared and made for a ticket, for the leader's processor. */
  work(run: number): { prepared: PreparedItem | null; output: RunOutput | null } {
    const { hand } = this;
    return hand?.ticket.run === run ? hand : { prepared: null, output: null };
  }

  /** How long this rank's part of a run took, once it is over. */
  times(run: number): RankTimes | undefined {
    const { hand } = this;
    if (hand?.ticket.run !== run || hand.output === null) return undefined;
    const { prefillSeconds, decodeSeconds, phases } = hand.output;
    const ms = (seconds: number) => Math.round(seconds * 1e6) / 1e3;
    return {
      rank: this.options.context.rank,
      prepare: Math.round(hand.prepareMs),
      prefill: ms(prefillSeconds),
      decode: ms(decodeSeconds),
      phases:
        phases && Object.fromEntries(Object.entries(phases).map(([name, seconds]) => [name, ms(seconds)])),
    };
  }

  run(ticket: Ticket): void {
    const { hand } = this;
    if (hand?.ticket.run !== ticket.run || hand.prepared === null) {
      this.fault(new Error(`run ${ticket.run} was started without its item`));
      return;
    }
    const { prepared } = hand;
    this.track(async () => {
      const { engine, timings, dispatch, onProgress } = this.options;
      try {
        hand.output = await runItem(
          {
            engine,
            stop: this.stopTokens,
            collectiveMs: timings.collective,
            measurePhases: this.options.measurePhases,
            stopSignal: hand.stopping.signal,
            abortSignal: this.aborting.signal,
            onProgress,
          },
          prepared,
        );
        await engine.release();
        measureRun(hand.prepareMs / 1000, hand.output);
        dispatch({ type: 'engineEnded', run: ticket.run, end: 'done' });
      } catch (error) {
        const result = runFailure(error, this.options.context.rank);
        if ('end' in result) {
          await engine.release().catch(() => undefined);
          dispatch({ type: 'engineEnded', run: ticket.run, end: result.end });
        } else {
          this.fault(error);
        }
      }
    });
  }

  drop(ticket: Ticket): void {
    if (this.hand?.ticket.run !== ticket.run) return;
    this.hand.preparing.abort();
    this.hand = null;
  }

  stop(ticket: Ticket): void {
    if (this.hand?.ticket.run === ticket.run) this.hand.stopping.abort();
  }

  /** The communicator is given up: the call in progress throws, and no other is made. */
  abort(cause: AbortCause): void {
    this.aborting.abort(new CohortLostError(cause));
    this.hand?.preparing.abort();
    this.options.engine.abort();
  }

  /** Resolves when nothing is in progress any more. */
  async idle(): Promise<void> {
    await this.busy;
  }

  private fault(error: unknown): void {
    if (this.aborting.signal.aborted) return;
    const result = runFailure(error, this.options.context.rank);
    const cause =
      'lost' in result
        ? result.lost
        : { code: 'INTERNAL', message: String(error), rank: this.options.context.rank };
    this.options.dispatch({ type: 'fault', cause });
  }

  private track(work: () => Promise<void>): void {
    const before = this.busy;
    const now = work();
    this.busy = Promise.all([before, now]).then(() => undefined);
  }
}
