/**
 * The leader's right to run a claimed item, on its own monotonic clock. The time is noted BEFORE the lock
 * is extended, so the lease never ends later here than in Redis. It waits for no event: a reply that
 * is 0, or none at all by the deadline minus a margin, ends it.
 */
import { LeaseLostError } from './errors.js';
import { now, pause, within } from './wait.js';

export interface LeaseOptions {
  /** BullMQ's extendLock: 1 when the lock is still ours. */
  extend: () => Promise<number>;
  lockMs: number;
  everyMs: number;
  marginMs: number;
  /** Called at most once. */
  onLost: (error: LeaseLostError) => void;
}

export class Lease {
  private readonly stopping = new AbortController();
  private deadline = 0;
  private lost: LeaseLostError | null = null;
  private watchdog: NodeJS.Timeout | undefined;
  private loop: Promise<void> = Promise.resolve();

  constructor(private readonly options: LeaseOptions) {}

  /** Takes the first extension and goes on extending. @throws LeaseLostError */
  async start(): Promise<void> {
    this.deadline = now() + this.options.lockMs;
    await this.confirm();
    this.loop = this.run();
  }

  /** Extends now, and answers only when the lock is ours. @throws LeaseLostError */
  async confirm(): Promise<void> {
    this.check();
    const left = this.deadline - this.options.marginMs - now();
    if (!(await this.tryExtend(left))) this.lose('the lock could not be extended in time');
    this.check();
  }

  /** How long the item may still be run without another extension. */
  left(): number {
    return this.lost === null ? this.deadline - this.options.marginMs - now() : 0;
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    clearTimeout(this.watchdog);
    await this.loop;
  }

  /** A process that was stopped past its lease finds out here, at the latest. @throws LeaseLostError */
  check(): void {
    if (this.lost === null && this.left() <= 0) this.lose('the lease ran out before the lock was extended');
    if (this.lost !== null) throw this.lost;
  }

  private async run(): Promise<void> {
    const { everyMs } = this.options;
    const { signal } = this.stopping;
    while (!signal.aborted && this.lost === null) {
      await pause(everyMs, signal).catch(() => undefined);
      if (signal.aborted || this.lost !== null) return;
      if (this.left() <= 0) {
        this.lose('the lease ran out before the lock was extended');
        return;
      }
      await this.tryExtend(Math.min(this.left(), everyMs));
    }
  }

  /** false: no reply in time or an error, which the next try may mend. */
  private async tryExtend(limitMs: number): Promise<boolean> {
    const noted = now();
    const reply = await within(
      this.options.extend().catch(() => null),
      Math.max(0, limitMs),
      null,
    );
    if (this.stopping.signal.aborted || reply === null) return false;
    if (reply !== 1) {
      this.lose('another worker holds the lock, or nobody does');
      return false;
    }
    this.deadline = noted + this.options.lockMs;
    this.watch();
    return true;
  }

  private watch(): void {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(
      () => {
        if (this.stopping.signal.aborted) return;
        if (this.left() > 0) this.watch();
        else this.lose('no extension of the lock was confirmed in time');
      },
      Math.max(1, this.left()),
    );
  }

  private lose(why: string): void {
    if (this.lost !== null || this.stopping.signal.aborted) return;
    this.lost = new LeaseLostError(`lease lost: ${why}`);
    clearTimeout(this.watchdog);
    this.options.onLost(this.lost);
  }
}
