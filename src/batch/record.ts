import type { Redis } from 'ioredis';
import type { ManifestHeader } from '../contracts/manifest.js';
import type { OutcomeStatus, Success } from '../contracts/outcome.js';
import { redisKeys } from '../platform/keys.js';

/*
 * A batch in Redis: the hash `batch:<id>` (who it is, flags, one count per outcome status) and the
 * hash `batch:<id>:outcomes` (ordinal -> status, with a `!` after a conflict). Both change only in the scripts below, so the
 * counts are the tally of the second hash at any moment, whoever dies when. All of it can be
 * rebuilt from S3.
 */

/** KEYS batch, batches; ARGV id, created_at, then field and value pairs. */
const REGISTER = `
for i = 3, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], 'NX', ARGV[2], ARGV[1])
return 1`;

/**
 * KEYS batch, outcomes; ARGV ordinal, status, conflict (0 or 1), ... Returns what is pending. A conflict
 * may be found after the ordinal was recorded (by the reconciler): `!` behind the status marks it as counted.
 */
const RECORD = `
if redis.call('HEXISTS', KEYS[1], 'completed_at') == 1 then return -2 end
for i = 1, #ARGV, 3 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('HINCRBY', KEYS[1], ARGV[i + 1], 1)
  end
  if ARGV[i + 2] == '1' then
    local status = redis.call('HGET', KEYS[2], ARGV[i])
    if string.sub(status, -1) ~= '!' then
      redis.call('HSET', KEYS[2], ARGV[i], status .. '!')
      redis.call('HINCRBY', KEYS[1], 'conflicts', 1)
    end
  end
end
local total = redis.call('HGET', KEYS[1], 'total')
if not total then return -1 end
return tonumber(total) - redis.call('HLEN', KEYS[2])`;

/** KEYS batch, outcomes; ARGV ordinals. */
const FORGET = `
for _, ordinal in ipairs(ARGV) do
  local status = redis.call('HGET', KEYS[2], ordinal)
  if status then
    redis.call('HDEL', KEYS[2], ordinal)
    redis.call('HINCRBY', KEYS[1], (string.gsub(status, '!', '')), -1)
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
  };
  const keys = [redisKeys.batch(id), redisKeys.batches()];
  await redis.eval(REGISTER, 2, ...keys, id, header.created_at, ...Object.entries(fields).flat());
}

export interface Committed {
  ordinal: number;
  status: OutcomeStatus;
  /** The object in S3 differed from ours and won. */
  conflict?: boolean;
}

/** What `recordOutcomes` found: requests still pending, or why that is not known. */
export type Pending = number | 'finished' | 'unregistered';

/** Records outcomes that are in S3. Each ordinal counts once, however often it is recorded. */
export async function recordOutcomes(redis: Redis, id: string, committed: Committed[]): Promise<Pending> {
  const values = committed.flatMap((c) => [c.ordinal, c.status, c.conflict === true ? 1 : 0]);
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
    fields.map(([ordinal, status]) => [Number(ordinal), status.replace('!', '') as OutcomeStatus]),
  );
}

/** After `_SUCCESS`: the counts as written there; the ordinals are no longer needed. */
export async function recordFinished(
  redis: Redis,
  id: string,
  counts: Success['counts'],
  completedAt: number,
): Promise<void> {
  const keys = [redisKeys.batch(id), redisKeys.batchOutcomes(id)];
  await redis.eval(FINISH, 2, ...keys, completedAt, ...Object.entries(counts).flat());
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
