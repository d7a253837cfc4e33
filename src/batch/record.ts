import type { Redis } from 'ioredis';
import type { ManifestHeader } from '../contracts/manifest.js';
import type { OutcomeStatus, Success } from '../contracts/outcome.js';
import { redisKeys } from '../platform/keys.js';
import { TOTALS, totalsFrom, type Totals } from './totals.js';

/*
 * A batch in Redis: the hash `batch:<id>` (who it is, flags, one count per outcome status, totals of tokens and
 * seconds) and the hash `batch:<id>:outcomes` (ordinal -> status, with a `!` after a conflict, then what the outcome
 * adds to the totals). Both change only in the scripts below, so counts and totals are the tally of the second hash at
 * any moment, whoever dies when. All of it can be rebuilt from S3.
 */

/** Lua: adds (`''`) or takes away (`'-'`) the totals that stand behind a status. */
const ADD = `
local names = {${TOTALS.map((name) => `'${name}'`).join(', ')}}
local function add(sign, value)
  local i = 0
  for amount in string.gmatch(value, ' (%d+)') do
    i = i + 1
    if amount ~= '0' then redis.call('HINCRBY', KEYS[1], names[i], sign .. amount) end
  end
end`;

/** KEYS batch, batches; ARGV id, created_at, then field and value pairs. */
const REGISTER = `
for i = 3, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[1])
return 1`;

/**
 * KEYS batch, outcomes; ARGV ordinal, status, conflict (0 or 1), totals, ... Returns what is pending. A conflict
 * may be found after the ordinal was recorded (by the reconciler): `!` behind the status marks it as counted.
 */
const RECORD = `${ADD}
if redis.call('HEXISTS', KEYS[1], 'completed_at') == 1 then return -2 end
for i = 1, #ARGV, 4 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1] .. ARGV[i + 3]) == 1 then
    redis.call('HINCRBY', KEYS[1], ARGV[i + 1], 1)
    add('', ARGV[i + 3])
  end
  if ARGV[i + 2] == '1' then
    local value = redis.call('HGET', KEYS[2], ARGV[i])
    if not string.find(value, '!', 1, true) then
      redis.call('HSET', KEYS[2], ARGV[i], (string.gsub(value, '^%a+', '%0!')))
      redis.call('HINCRBY', KEYS[1], 'conflicts', 1)
    end
  end
end
local total = redis.call('HGET', KEYS[1], 'total')
if not total then return -1 end
return tonumber(total) - redis.call('HLEN', KEYS[2])`;

/** KEYS batch, outcomes; ARGV ordinals. */
const FORGET = `${ADD}
for _, ordinal in ipairs(ARGV) do
  local value = redis.call('HGET', KEYS[2], ordinal)
  if value then
    redis.call('HDEL', KEYS[2], ordinal)
    redis.call('HINCRBY', KEYS[1], string.match(value, '^%a+'), -1)
    add('-', value)
  end
end
return 1`;

/** KEYS batch, outcomes; ARGV completed_at, then field and value pairs. */
const FINISH = `
redis.call('HSETNX', KEYS[1], 'completed_at', ARGV[1])
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('DEL', KEYS[2])
return 1`;

/** KEYS batch, outcomes, batches; ARGV id, only if finished (0 or 1). */
const DROP = `
if ARGV[2] == '1' and redis.call('HEXISTS', KEYS[1], 'completed_at') == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1], KEYS[2])`;

/** Makes the batch known in Redis; what is there already stays. */
export async function registerBatch(redis: Redis, header: ManifestHeader): Promise<void> {
  const id = header.batch_id;
  const fields = {
    created_at: header.created_at,
    total: header.totals.requests,
    items: header.totals.items,
    input: header.input,
    ...(header.expires_at === null ? {} : { expires_at: header.expires_at }),
    ...(header.then_of === undefined ? {} : { then_of: header.then_of }),
  };
  const keys = [redisKeys.batch(id), redisKeys.batches()];
  const lanes = header.lanes?.map(({ name }) => name) ?? [];
  // First: whoever looks through all lanes must not miss one that has jobs.
  if (lanes.length > 0) await redis.sadd(redisKeys.lanes(), ...lanes);
  await redis.eval(REGISTER, 2, ...keys, id, header.created_at, ...Object.entries(fields).flat());
}

export interface Committed {
  ordinal: number;
  status: OutcomeStatus;
  /** The object in S3 differed from ours and won. */
  conflict?: boolean;
  /** What the outcome in S3 adds to the batch's. */
  totals: Totals;
}

/** What `recordOutcomes` found: requests still pending, or why that is not known. */
export type Pending = number | 'finished' | 'unregistered';

/** Records outcomes that are in S3. Each ordinal counts once, however often it is recorded. */
export async function recordOutcomes(redis: Redis, id: string, committed: Committed[]): Promise<Pending> {
  const values = committed.flatMap(({ ordinal, status, conflict, totals }) => {
    const amounts = TOTALS.map((name) => ` ${totals[name]}`).join('');
    return [ordinal, status, conflict === true ? 1 : 0, amounts];
  });
  const keys = [redisKeys.batch(id), redisKeys.batchOutcomes(id)];
  const pending = (await redis.eval(RECORD, 2, ...keys, ...values)) as number;
  return pending === -2 ? 'finished' : pending === -1 ? 'unregistered' : pending;
}

/** Takes back what was recorded for outcomes that S3 does not have. */
export async function forgetOutcomes(redis: Redis, id: string, ordinals: number[]): Promise<void> {
  await redis.eval(FORGET, 2, redisKeys.batch(id), redisKeys.batchOutcomes(id), ...ordinals);
}

export async function recordedOrdinals(redis: Redis, id: string): Promise<Set<number>> {
  return new Set((await redis.hkeys(redisKeys.batchOutcomes(id))).map(Number));
}

/** How the requests of a batch under way ended so far, by ordinal. */
export async function recordedStatuses(redis: Redis, id: string): Promise<Map<number, OutcomeStatus>> {
  const fields = Object.entries(await redis.hgetall(redisKeys.batchOutcomes(id)));
  return new Map(
    fields.map(([ordinal, value]) => [Number(ordinal), /^\w+/.exec(value)?.[0] as OutcomeStatus]),
  );
}

/** After `_SUCCESS`: counts and totals as written there, and the batch that follows; the ordinals are no longer needed. */
export async function recordFinished(
  redis: Redis,
  id: string,
  { counts, usage, work }: Pick<Success, 'counts' | 'usage' | 'work'>,
  completedAt: number,
  then: string | null = null,
): Promise<void> {
  const fields = {
    ...counts,
    ...(work === undefined ? {} : totalsFrom(usage, work)),
    ...(then === null ? {} : { then }),
  };
  const keys = [redisKeys.batch(id), redisKeys.batchOutcomes(id)];
  await redis.eval(FINISH, 2, ...keys, completedAt, ...Object.entries(fields).flat());
}

/** Redis forgets the batch; what S3 has stays. `ifFinished`: not one that is under way. */
export async function dropBatch(
  redis: Redis,
  id: string,
  { ifFinished }: { ifFinished: boolean },
): Promise<void> {
  const keys = [redisKeys.batch(id), redisKeys.batchOutcomes(id), redisKeys.batches()];
  await redis.eval(DROP, 3, ...keys, id, ifFinished ? 1 : 0);
}
