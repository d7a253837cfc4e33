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
import { redisKeys } from '../platform/keys.js';
import { execAll } from './redis-exec.js';

const KEEP_MS = 30 * 24 * 3600 * 1000;

const run = z.strictObject({ generation: z.string(), epoch: z.int() });
export type RunMark = z.infer<typeof run>;

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

  /** Counts the run that an earlier claim left behind, if any, and tells all deaths so far. */
  async reckon(): Promise<string[]> {
    const left = await this.redis.hget(this.key, 'running');
    if (left !== null) {
      const { generation, epoch } = run.parse(JSON.parse(left));
      await this.death({ generation, epoch }, 'the cohort vanished during the run');
    }
    const all = await this.redis.hgetall(this.key);
    return Object.entries(all).flatMap(([field, cause]) => {
      if (!field.startsWith('death:')) return [];
      const { generation, epoch } = run.parse(JSON.parse(field.slice('death:'.length)));
      return [`epoch ${epoch}, generation ${generation}: ${cause}`];
    });
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

  async death(mark: RunMark, cause: string): Promise<void> {
    await this.redis.eval(DEATH, 1, this.key, encode(mark), cause, KEEP_MS);
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

function encode({ generation, epoch }: RunMark): string {
  return JSON.stringify({ generation, epoch });
}

/** Doubles from first to last. */
export function faultBackoff(faults: number, first: number, last: number): number {
  return Math.min(last, first * 2 ** Math.min(faults - 1, 30));
}
