/** What a key may take: counted in Redis for all gateways together, and by its name, so that a second key is no second share. */
import type { Redis } from 'ioredis';
import { redisKeys } from '../platform/keys.js';
import { ApiError } from './api-error.js';
import type { ApiKey } from './api-keys.js';

const MINUTE = 60;
const DAY = 86_400;

/** Counts a request; returns headers that say what is left. @throws ApiError 429 */
export async function countRequest(
  redis: Redis,
  { owner, limits: { requests_per_minute: limit } }: ApiKey,
): Promise<Record<string, string>> {
  const used = await count(redis, 'requests', owner, MINUTE, 1);
  const headers = {
    'x-ratelimit-limit-requests': String(limit),
    'x-ratelimit-remaining-requests': String(Math.max(0, limit - used)),
  };
  if (used <= limit) return headers;
  const wait = MINUTE - (Math.floor(Date.now() / 1000) % MINUTE);
  throw new ApiError(
    429,
    'rate_limit_exceeded',
    `${owner} may make ${limit} requests a minute; try again in ${wait} s`,
    { headers: { ...headers, 'retry-after': String(wait) } },
  );
}

/** How many bytes may still be uploaded today. @throws ApiError 429 when that is none. */
export async function bytesLeft(redis: Redis, { owner, limits }: ApiKey): Promise<number> {
  const left = limits.bytes_per_day - (await count(redis, 'bytes', owner, DAY, 0));
  if (left <= 0) throw tooManyBytes(limits.bytes_per_day);
  return left;
}

export async function countBytes(redis: Redis, { owner }: ApiKey, bytes: number): Promise<void> {
  await count(redis, 'bytes', owner, DAY, bytes);
}

export const tooManyBytes = (limit: number): ApiError =>
  new ApiError(
    429,
    'upload_limit_exceeded',
    `this key may upload ${limit} bytes a day (UTC); try again tomorrow`,
    {
      headers: { 'x-should-retry': 'false' },
    },
  );

async function count(
  redis: Redis,
  what: string,
  owner: string,
  seconds: number,
  more: number,
): Promise<number> {
  const key = redisKeys.gatewayCount(what, owner, Math.floor(Date.now() / 1000 / seconds));
  const replies = await redis
    .multi()
    .incrby(key, more)
    .expire(key, 2 * seconds)
    .exec();
  const [error, used] = replies?.[0] ?? [new Error('Redis gave the transaction up')];
  if (error !== null) throw error;
  return Number(used);
}
