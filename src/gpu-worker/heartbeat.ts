/**
 * Heartbeats of a generation. Every rank writes a counter (and what it does, for people), and reads the others': a counter that has
 * not moved for `heartbeatExpiry` on this rank's own monotonic clock is a death, so no clock is ever
 * compared with another machine's. The same round trip checks that the generation is still the current
 * one and that nobody aborted it.
 */
import type { Redis } from 'ioredis';
import type { Logger } from '../platform/logger.js';
import type { RankReport } from '../contracts/cohort.js';
import { cohortKeys } from '../platform/keys.js';
import type { Timings } from '../platform/timings.js';
import { abortCause, type AbortCause } from './messages.js';
import { execAll } from './redis-exec.js';
import { now, pause } from './wait.js';

export interface HeartbeatOptions {
  redis: Redis;
  cohort: string;
  generation: string;
  rank: number;
  /** Ranks to watch; a forming cohort watches none. */
  ranks: number;
  timings: Timings;
  logger: Logger;
  /** What the rank does, told with each beat. */
  report: () => Omit<RankReport, 'beat'>;
  /** Called once, at the first reason to give the cohort up. */
  onFault: (cause: AbortCause) => void;
  /** Called after every beat that Redis took. */
  onBeat?: () => Promise<unknown>;
}

export class Heartbeat {
  private readonly stopping = new AbortController();
  private readonly seen = new Map<number, { value: string | null; at: number }>();
  private beats = 0;
  private written = now();
  private watching = false;
  private loop: Promise<void> = Promise.resolve();

  constructor(private readonly options: HeartbeatOptions) {}

  start(): void {
    this.loop = this.run();
  }

  /** Begins to watch the other ranks: they beat from their registration on. */
  watch(): void {
    for (let rank = 0; rank < this.options.ranks; rank++) {
      if (rank !== this.options.rank) this.seen.set(rank, { value: null, at: now() });
    }
    this.watching = true;
  }

  /** Stops beating and takes the heartbeat away, so that a successor need not wait for its expiry. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.loop;
    const { redis, cohort, generation, rank } = this.options;
    await redis.del(cohortKeys(cohort).heartbeat(generation, rank)).catch(() => undefined);
  }

  private async run(): Promise<void> {
    const { timings, logger, onFault } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const begun = now();
      try {
        const fault = await this.beat(begun);
        if (fault !== null && !signal.aborted) {
          onFault(fault);
          return;
        }
      } catch (error) {
        logger.warn({ err: error }, 'heartbeat not written');
      }
      if (signal.aborted) return;
      if (now() - this.written > timings.heartbeatExpiry) {
        const message = `rank ${this.options.rank} could not write its heartbeat for ${timings.heartbeatExpiry} ms`;
        onFault({ code: 'FENCED', message, rank: this.options.rank });
        return;
      }
      const rest = Math.max(10, timings.heartbeat - (now() - begun));
      await pause(rest, signal).catch(() => undefined);
    }
  }

  private async beat(begun: number): Promise<AbortCause | null> {
    const { redis, cohort, generation, rank, timings, report } = this.options;
    const keys = cohortKeys(cohort);
    const told: RankReport = { beat: ++this.beats, ...report() };
    const others = this.watching ? [...this.seen.keys()] : [];
    const replies = await execAll(
      redis
        .multi()
        .set(keys.heartbeat(generation, rank), JSON.stringify(told), 'PX', timings.heartbeatExpiry)
        .get(keys.current)
        .get(keys.abort(generation))
        .mget([rank, ...others].map((one) => keys.heartbeat(generation, one))),
    );
    const [, current, aborted, beats] = replies as [unknown, string | null, string | null, (string | null)[]];
    this.written = begun;
    if (aborted !== null) return abortCause.parse(JSON.parse(aborted));
    if (current !== generation) {
      const message = `generation ${generation} was superseded by ${current ?? 'nothing: Redis lost it'}`;
      return { code: 'SUPERSEDED', message, rank: null };
    }
    await this.options.onBeat?.();
    return this.judge(others, beats.slice(1));
  }

  /** Reads come before the judgement: a rank that was stopped itself sees the others' newer counters first. */
  private judge(others: number[], beats: (string | null)[]): AbortCause | null {
    const { timings } = this.options;
    const at = now();
    others.forEach((other, index) => {
      const value = beats[index] ?? null;
      if (value !== null && value !== this.seen.get(other)?.value) this.seen.set(other, { value, at });
    });
    const silent = others.find((other) => at - (this.seen.get(other)?.at ?? at) > timings.heartbeatExpiry);
    if (silent === undefined) return null;
    const message = `rank ${silent} sent no heartbeat for ${timings.heartbeatExpiry} ms`;
    return { code: 'RANK_SILENT', message, rank: silent };
  }
}
