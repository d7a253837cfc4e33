/**
 * What a work item did to its cohorts, durably in Redis: BullMQ's own attempt counters also count
 * drains and give-backs, which are nobody's fault.
 *
 * `running` is written at GO and taken away when the run ends in any orderly way. Whoever claims the item
 * and still finds it knows that a cohort died over it: that is an engine death, also when its leader
 * died too.
 */
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { unixNow } from '../batch/flags.js';
import { engineDeath, type EngineDeath } from '../contracts/work-item.js';
import { redisKeys } from '../platform/keys.js';
import { execAll } from './redis-exec.js';

const KEEP_MS = 30 * 24 * 3600 * 1000;

/** Causes go through Redis in a job's failure, so they are cut. */
const MAX_CAUSE = 500;

const run = z.strictObject({ cohort: z.string(), generation: z.string(), epoch: z.int() });
export type RunMark = z.infer<typeof run>;
export type DeathCause = Pick<EngineDeath, 'rank' | 'phase' | 'code' | 'message'>;
const death = engineDeath.omit({ cohort: true, generation: true, epoch: true });

/** Takes the mark away only from the run that wrote it: a zombie must not clear its successor's. */
const CLEAR = `
if redis.call('HGET', KEYS[1], 'running') == ARGV[1] then return redis.call('HDEL', KEYS[1], 'running') end
return 0`;

/** Counts a run's death once, however often it is reported. */
const DEATH = `
if redis.call('HGET', KEYS[1], 'running') == ARGV[1] then redis.call('HDEL', KEYS[1], 'running') end
if redis.call('HSETNX', KEYS[1], 'death:' .. ARGV[1], ARGV[2]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'engine_deaths', 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`;

export class ItemCounters {
  private readonly key: string;

  constructor(
    private readonly redis: Redis,
    batch: string,
    item: number,
  ) {
    this.key = redisKeys.item(batch, item);
  }

  /**
   * Counts the run that an earlier claim left behind, if any, and tells all deaths so far, oldest first.
   * `phaseOf` says how far the run of an epoch is known to have come.
   */
  async reckon(phaseOf: (epoch: number) => string | null): Promise<EngineDeath[]> {
    const left = await this.redis.hget(this.key, 'running');
    if (left !== null) {
      const mark = run.parse(JSON.parse(left));
      const message = 'the cohort vanished during the run';
      await this.death(mark, { code: 'VANISHED', message, rank: null, phase: phaseOf(mark.epoch) });
    }
    const all = await this.redis.hgetall(this.key);
    const deaths = Object.entries(all).flatMap(([field, value]) =>
      field.startsWith('death:')
        ? [{ ...run.parse(JSON.parse(field.slice('death:'.length))), ...death.parse(JSON.parse(value)) }]
        : [],
    );
    return deaths.sort((a, b) => a.epoch - b.epoch);
  }

  async begin(mark: RunMark): Promise<void> {
    await execAll(this.redis.multi().hset(this.key, 'running', encode(mark)).pexpire(this.key, KEEP_MS));
  }

  async end(mark: RunMark): Promise<void> {
    await this.redis.eval(CLEAR, 1, this.key, encode(mark));
  }

  /** The item is answered: what it did to cohorts on the way is of no use any more. */
  async forget(): Promise<void> {
    await this.redis.del(this.key);
  }

  async death(mark: RunMark, cause: DeathCause): Promise<void> {
    const value = { ...cause, message: cause.message.slice(0, MAX_CAUSE), at: unixNow() };
    await this.redis.eval(DEATH, 1, this.key, encode(mark), JSON.stringify(value), KEEP_MS);
  }

  /** Returns how many infrastructure faults the item has met; `last_fault` is for people. */
  async infrastructureFault(fault: { code: string; message: string }): Promise<number> {
    const [faults] = await execAll(
      this.redis
        .multi()
        .hincrby(this.key, 'infrastructure_faults', 1)
        .hset(this.key, 'last_fault', `${fault.code}: ${fault.message}`)
        .pexpire(this.key, KEEP_MS),
    );
    return Number(faults);
  }
}

function encode({ cohort, generation, epoch }: RunMark): string {
  return JSON.stringify({ cohort, generation, epoch });
}

/** Doubles from first to last. */
export function faultBackoff(faults: number, first: number, last: number): number {
  return Math.min(last, first * 2 ** Math.min(faults - 1, 30));
}
