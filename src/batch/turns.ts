/**
 * Whose document is next. Of equal priority, batches take turns: each gets a document answered before any gets a
 * second one, so that a batch of a million does not hold up one of three. Batches of one tenant share one turn.
 *
 * It is start-time fair queueing with documents of equal cost: a batch that comes starts with the turn after the one that
 * is being served, so that nobody who waits is overtaken by all who ever come, and each further document of it is a turn
 * later. BullMQ takes waiting jobs by their score, the priority above 32 bits of a counter; the turn is written in the
 * counter's place.
 */
import type { Redis } from 'ioredis';
import { QUEUE_PREFIX, redisKeys } from '../platform/keys.js';

/** BullMQ's score of a waiting job is its priority times this, plus a counter. */
export const PER_PRIORITY = 0x100000000;

/**
 * KEYS prioritized, turns; ARGV lowest and highest score of the priority, tenant ('' for none), the last turn that the
 * same batch has, key prefix of jobs, job ids. Returns the last turn given.
 *
 * What is served now is the turn of the first waiting job that has one: those given back come first with a score of
 * BullMQ's own, and those just added by somebody else have none yet. When none waits, all turns that were ever given
 * have been served. A job that was claimed meanwhile needs no turn any more.
 */
const TAKE = `
local low, high, tenant, turn = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local latest = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
local now = latest
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], low, high, 'LIMIT', 0, 1000)) do
  local first = redis.call('HGET', ARGV[5] .. id, 'turn')
  if first then
    now = tonumber(first)
    break
  end
end
local field = ARGV[1] .. ':' .. tenant
if tenant ~= '' then turn = math.max(turn, tonumber(redis.call('HGET', KEYS[2], field) or 0)) end
turn = math.max(turn, now)
for i = 6, #ARGV do
  turn = turn + 1
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], math.min(low + turn, high), ARGV[i])
    redis.call('HSET', ARGV[5] .. ARGV[i], 'turn', turn)
  end
end
if tenant ~= '' then redis.call('HSET', KEYS[2], field, turn) end
if turn > latest then redis.call('HSET', KEYS[2], ARGV[1], turn) end
return turn`;

export interface Turns {
  /** BullMQ's. */
  priority: number;
  tenant: string | undefined;
  /** The last turn that this batch got; 0: none yet. */
  after: number;
}

/** Gives waiting jobs of a batch their turns, in their order. Returns the last one. */
export async function takeTurns(
  redis: Redis,
  queue: string,
  jobs: readonly string[],
  { priority, tenant, after }: Turns,
): Promise<number> {
  const prefix = `${QUEUE_PREFIX}:${queue}:`;
  const low = priority * PER_PRIORITY;
  const bounds = [low, low + PER_PRIORITY - 1];
  const keys = [`${prefix}prioritized`, redisKeys.turns(queue)];
  return (await redis.eval(TAKE, 2, ...keys, ...bounds, tenant ?? '', after, prefix, ...jobs)) as number;
}
