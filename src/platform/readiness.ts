import type { Redis } from 'ioredis';
import type { Logger } from './logger.js';
import { describeError } from './errors.js';
import { objectKeys } from './keys.js';
import type { ObjectStore } from './object-store.js';

const PATIENCE_MS = 2_000;
/** However often it is asked, what is needed is asked once in this time. */
const FRESH_MS = 1_000;

/** What a process needs, by name: each fulfils when it is there. */
export type Needs = Record<string, (signal: AbortSignal) => Promise<unknown>>;

/** What every process that works on batches needs. */
export const batchNeeds = (redis: Redis, store: ObjectStore): Needs => ({
  redis: () => redis.ping(),
  s3: (signal) => store.listFolders(objectKeys.batches(), signal).next(),
});

export type Ready = { status: 'ready' | 'unavailable' | 'draining' } & Record<string, boolean | string>;

/** Whether a process can do its work now: all that it needs answers, and it is not ending. */
export class Readiness {
  private last: { at: number; found: Promise<Record<string, boolean>> } | undefined;

  constructor(
    private readonly needs: Needs,
    private readonly logger: Logger,
    /** Aborted when the process is to end. */
    private readonly ending: AbortSignal,
  ) {}

  async check(): Promise<Ready> {
    if (this.last === undefined || performance.now() - this.last.at > FRESH_MS)
      this.last = { at: performance.now(), found: this.ask() };
    const found = await this.last.found;
    const all = Object.values(found).every(Boolean);
    return { ...found, status: this.ending.aborted ? 'draining' : all ? 'ready' : 'unavailable' };
  }

  private async ask(): Promise<Record<string, boolean>> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const late = new Promise<never>((_resolve, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason as Error)),
    );
    const asked = Object.entries(this.needs).map(async ([what, ask]) => {
      try {
        await Promise.race([ask(signal), late]);
        return [what, true] as const;
      } catch (error) {
        this.logger.warn({ what, ...describeError(error) }, 'not reached');
        return [what, false] as const;
      }
    });
    return Object.fromEntries(await Promise.all(asked));
  }
}
