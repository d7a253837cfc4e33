/**
 * One claimed job, from claim to return: lease, counters, cancel and expiry, and what the way the run
 * ended means for BullMQ. A returned value completes the child and hands the answers on; an
 * UnrecoverableError ends it; WaitingError and DelayedError give it back with no attempt burned.
 */
import { DelayedError, UnrecoverableError, WaitingError, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { endingOf } from '../batch/flags.js';
import {
  itemProgress,
  type ItemFailure,
  type ItemJob,
  type ItemProgress,
  type ItemResult,
} from '../contracts/work-item.js';
import type { ItemTimeline } from '../contracts/timeline.js';
import { describeError, DocumentError } from '../platform/errors.js';
import type { Logger } from '../platform/logger.js';
import type { Timings } from '../platform/timings.js';
import { faultBackoff, ItemCounters, type RunMark } from './counters.js';
import { LeaseLostError } from './errors.js';
import { isEngineDeath } from './failures.js';
import { Lease } from './lease.js';
import type { Failure, Ticket } from './messages.js';
import type { PreparedItem } from './prepare-item.js';
import type { Settlement } from './protocol-types.js';
import type { RunOutput } from './run-item.js';
import { deferred, now, pause, within } from './wait.js';

/** An item that took this many cohorts with it is not tried again. */
const POISON_DEATHS = 3;
/** The last of them are told. */
const MAX_HISTORY = 10;

export type StopReason = 'cancelled' | 'expired' | 'drain';

export interface ClaimDeps {
  redis: Redis;
  timings: Timings;
  logger: Logger;
  cohort: string;
  generation: string;
  /** Offers the item to the cohort; the settlement comes through `settle`. */
  offer: (batch: string, item: number, epoch: number) => void;
  requestStop: (run: number) => void;
  leaseLost: (error: LeaseLostError) => void;
  work: (run: number) => { prepared: PreparedItem | null; output: RunOutput | null };
  /** `times`: the leader's part of the item's timeline. */
  buildResult: (
    prepared: PreparedItem,
    output: RunOutput,
    epoch: number,
    times: Omit<ItemTimeline, 'ranks'>,
  ) => Promise<ItemResult>;
  /** S3 or another service is away: the leader waits before it claims again. */
  backOff: (failure: Failure) => void;
  /** Whether claims are closed for good: then there is no run to begin. */
  draining: () => boolean;
}

export class Claim {
  private readonly lease: Lease;
  private readonly counters: ItemCounters;
  private readonly settled = deferred<{ ticket: Ticket; settlement: Settlement }>();
  private readonly ended = new AbortController();
  private readonly mark: RunMark;
  private pending = false;
  private run = 0;
  private why: StopReason | LeaseLostError | null = null;
  private reported = { phase: '', since: 0 };
  private tokens = 0;
  private readonly claimedAt = Date.now();
  private preparedAt = 0;

  constructor(
    private readonly deps: ClaimDeps,
    private readonly job: Job<ItemJob, ItemResult>,
    private readonly token: string,
  ) {
    const { timings, redis, cohort, generation } = deps;
    this.mark = { cohort, generation, epoch: job.attemptsStarted };
    this.counters = new ItemCounters(redis, job.data.batch_id, job.data.item);
    this.lease = new Lease({
      extend: () => job.extendLock(token, timings.lock),
      lockMs: timings.lock,
      everyMs: timings.extend,
      marginMs: timings.leaseMargin,
      onLost: (error) => {
        if (this.pending) deps.leaseLost(error);
      },
    });
  }

  async process(): Promise<ItemResult> {
    const { batch_id: batch, item } = this.job.data;
    try {
      await this.lease.start();
      await this.refuseHopeless();
      this.pending = true;
      this.deps.offer(batch, item, this.job.attemptsStarted);
      const { ticket, settlement } = await this.settled.promise;
      this.pending = false;
      return await this.conclude(ticket, settlement);
    } catch (error) {
      throw await this.translate(error);
    } finally {
      this.pending = false;
      this.ended.abort();
      await this.lease.stop();
    }
  }

  settle(ticket: Ticket, settlement: Settlement): void {
    this.settled.resolve({ ticket, settlement });
  }

  /** All ranks are PREPARED: is the item still ours, still wanted, and may it be run? */
  async confirm(ticket: Ticket): Promise<{ go: boolean; runMs: number }> {
    const { timings, logger } = this.deps;
    const none = { go: false, runMs: 0 };
    const { prepared } = this.deps.work(ticket.run);
    if (prepared === null) return none;
    try {
      await this.lease.confirm();
      if (await this.isUnwanted(prepared.item.expires_at)) return none;
      if (this.deps.draining()) {
        this.why = 'drain';
        return none;
      }
      await this.counters.begin(this.mark);
      this.lease.check();
    } catch (error) {
      if (error instanceof LeaseLostError) this.why = error;
      logger.warn({ err: error, run: ticket.run }, 'no GO');
      return none;
    }
    this.run = ticket.run;
    this.preparedAt = Date.now();
    this.tokens = prepared.item.document.tokens;
    void this.watch(prepared.item.expires_at);
    const perPrefill = timings.runBase + timings.runPerToken * prepared.item.document.tokens;
    return { go: true, runMs: perPrefill * prepared.groups.length };
  }

  /** A running item is given back, if it does not end before all ranks have stopped. */
  stop(why: StopReason): void {
    this.why ??= why;
    if (this.run > 0) this.deps.requestStop(this.run);
  }

  /** Progress is for people: one value per phase and heartbeat, and none is waited for. */
  progress(progress: Pick<ItemProgress, 'phase' | 'done' | 'total'>): void {
    const at = now();
    const { phase, since } = this.reported;
    if (!this.pending || (phase === progress.phase && at - since < this.deps.timings.heartbeat)) return;
    this.reported = { phase: progress.phase, since: at };
    const value: ItemProgress = {
      epoch: this.job.attemptsStarted,
      document_tokens: this.tokens,
      ...progress,
    };
    this.job.updateProgress(value).catch((error: unknown) => {
      this.deps.logger.debug({ err: error }, 'progress not written');
    });
  }

  /** Cancel and expiry during the run, by rank 0 alone: its stop travels inside a collective. */
  private async watch(expiresAt: number | null): Promise<void> {
    const { signal } = this.ended;
    while (!signal.aborted) {
      await pause(this.deps.timings.heartbeat, signal).catch(() => undefined);
      if (signal.aborted || this.why !== null) return;
      const unwanted = await this.isUnwanted(expiresAt).catch(() => false);
      if (unwanted && !signal.aborted) this.deps.requestStop(this.run);
    }
  }

  private async isUnwanted(expiresAt: number | null): Promise<boolean> {
    const ending = await endingOf(this.deps.redis, {
      batch_id: this.job.data.batch_id,
      expires_at: expiresAt,
    });
    if (ending !== undefined) this.why ??= ending;
    return ending !== undefined;
  }

  private async refuseHopeless(): Promise<void> {
    if (await this.isUnwanted(null)) throw this.end('cancelled');
    const progress = itemProgress.safeParse(this.job.progress);
    const deaths = await this.counters.reckon((epoch) =>
      progress.data?.epoch === epoch ? progress.data.phase : null,
    );
    if (deaths.length < POISON_DEATHS) return;
    const history = deaths.slice(-MAX_HISTORY);
    const told = history.map(
      ({ epoch, generation, code, message }) =>
        `epoch ${epoch}, generation ${generation}: ${code}: ${message}`,
    );
    throw this.failure({
      end: 'failed',
      code: 'POISON',
      message: `the item ended ${deaths.length} cohorts and is not tried again: ${told.join('; ')}`,
      history,
    });
  }

  /** As last reported. */
  private phase(): string | null {
    return this.reported.phase === '' ? null : this.reported.phase;
  }

  private async conclude(ticket: Ticket, settlement: Settlement): Promise<ItemResult> {
    switch (settlement.kind) {
      case 'end':
        await this.counters.end(this.mark);
        return this.concludeRun(ticket, settlement.end);
      case 'refused':
        return this.concludeFailure(settlement.failure);
      case 'withheld':
        if (this.why instanceof LeaseLostError) throw this.why;
        if (this.why === 'cancelled' || this.why === 'expired') throw this.end(this.why);
        throw await this.giveBack(this.deps.draining() ? 0 : this.deps.timings.faultBackoffFirst);
      case 'lost': {
        const { cause } = settlement;
        if (cause.code === 'LEASE_LOST') throw new LeaseLostError(cause.message);
        // Before GO there was no run that could have done it; `death` would count one all the same.
        if (this.run > 0 && isEngineDeath(cause)) {
          await this.counters.death(this.mark, { ...cause, phase: this.phase() });
        } else if (this.run > 0) await this.counters.end(this.mark);
        throw await this.giveBack(this.deps.timings.faultBackoffFirst);
      }
    }
  }

  private async concludeRun(ticket: Ticket, end: 'done' | 'stopped' | Failure): Promise<ItemResult> {
    if (end === 'done') {
      const { prepared, output } = this.deps.work(ticket.run);
      if (prepared === null || output === null) throw new Error('the run left no answers');
      await this.counters.forget();
      return this.deps.buildResult(prepared, output, this.job.attemptsStarted, {
        queued_at: this.job.timestamp,
        claimed_at: this.claimedAt,
        prepared_at: this.preparedAt,
        finished_at: Date.now(),
      });
    }
    if (end !== 'stopped') return this.concludeFailure(end);
    if (this.why === 'cancelled' || this.why === 'expired') throw this.end(this.why);
    throw await this.giveBack(0);
  }

  private async concludeFailure(failure: Failure): Promise<never> {
    const { code, message, kind } = failure;
    if (kind === 'document') throw this.failure({ end: 'failed', code, message });
    // A defect of ours in this very item would come back for ever: it is counted like a death.
    if (code === 'INTERNAL')
      await this.counters.death(this.mark, { code, message, rank: null, phase: this.phase() });
    if (code === 'S3') this.deps.backOff(failure);
    const { faultBackoffFirst, faultBackoffLast } = this.deps.timings;
    const faults = await this.counters.infrastructureFault(failure);
    throw await this.giveBack(faultBackoff(faults, faultBackoffFirst, faultBackoffLast));
  }

  private end(end: 'cancelled' | 'expired'): UnrecoverableError {
    return this.failure({
      end,
      code: end.toUpperCase(),
      message: `the batch was ${end} before this item ended`,
    });
  }

  private failure(failure: ItemFailure): UnrecoverableError {
    return new UnrecoverableError(JSON.stringify(failure));
  }

  /** Back to the queue, no attempt burned. What BullMQ does not take in time comes back as stalled. */
  private async giveBack(ms: number): Promise<WaitingError | DelayedError> {
    const { job, token } = this;
    const { abort } = this.deps.timings;
    const move =
      ms === 0 ? job.moveToWait(token) : job.moveToDelayed(Date.now() + ms, token).then(() => undefined);
    const moved = await within(
      move.then(
        () => 'moved' as const,
        (error: unknown) => describeError(error).message,
      ),
      abort / 2,
      'no reply from Redis',
    );
    if (moved !== 'moved') this.deps.logger.warn({ reason: moved }, 'item not given back; it will stall');
    return ms === 0 ? new WaitingError() : new DelayedError();
  }

  /** Nothing may reach BullMQ as a plain error: it would end the item. */
  private async translate(error: unknown): Promise<Error> {
    if (error instanceof UnrecoverableError || error instanceof WaitingError || error instanceof DelayedError)
      return error;
    if (error instanceof DocumentError)
      return this.failure({ end: 'failed', code: error.code, message: error.message });
    this.deps.logger.warn({ err: error }, 'item given back');
    // The lock is not ours any more: whoever holds it decides.
    if (error instanceof LeaseLostError) return new DelayedError();
    return this.giveBack(this.deps.timings.faultBackoffFirst);
  }
}
