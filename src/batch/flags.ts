import type { Redis } from 'ioredis';
import { ifFound } from '../platform/errors.js';
import { objectKeys, redisKeys } from '../platform/keys.js';
import type { BatchDeps } from './queues.js';

/** Why waiting items of a batch end without an answer; undefined: they do not. */
export type Ending = 'cancelled' | 'expired' | undefined;

export const unixNow = (): number => Math.floor(Date.now() / 1000);

/**
 * Unix seconds by Redis's clock, the one by which batches expire: a machine whose own wall clock is wrong must
 * end nothing.
 */
export async function redisNow(redis: Redis): Promise<number> {
  const [seconds] = await redis.time();
  return Number(seconds);
}

export async function endingOf(
  redis: Redis,
  batch: { batch_id: string; expires_at: number | null },
): Promise<Ending> {
  if ((await redis.hexists(redisKeys.batch(batch.batch_id), 'cancel_requested_at')) === 1) return 'cancelled';
  if (batch.expires_at === null) return undefined;
  return (await redisNow(redis)) >= batch.expires_at ? 'expired' : undefined;
}

/**
 * Writes the wish to cancel to both places. Redis first, where it works at once; S3 keeps it when
 * Redis is lost. The first wish's time stands.
 */
export async function raiseCancel(deps: BatchDeps, id: string, signal?: AbortSignal): Promise<void> {
  const key = redisKeys.batch(id);
  await deps.redis.hsetnx(key, 'cancel_requested_at', unixNow());
  const since = Number(await deps.redis.hget(key, 'cancel_requested_at'));
  await wishCancel(deps, id, since, signal);
}

/** Writes the wish to S3 alone, where a batch finds it that is still being made. */
export async function wishCancel(
  { store }: Pick<BatchDeps, 'store'>,
  id: string,
  since = unixNow(),
  signal?: AbortSignal,
): Promise<void> {
  await store.create(objectKeys.cancel(id), JSON.stringify({ cancel_requested_at: since }) + '\n', signal);
}

/** When cancelling was asked for, as S3 knows it. */
export async function readCancel(
  store: BatchDeps['store'],
  id: string,
  signal?: AbortSignal,
): Promise<number | undefined> {
  const bytes = await ifFound(store.get(objectKeys.cancel(id), signal));
  if (bytes === undefined) return undefined;
  const wish: unknown = JSON.parse(bytes.toString('utf8'));
  const since = (wish as { cancel_requested_at?: unknown }).cancel_requested_at;
  return typeof since === 'number' ? since : undefined;
}

/** Puts the flag back where it is missing: Redis lost it, or S3 was away when it was raised. */
export async function restoreCancel(deps: BatchDeps, id: string, signal?: AbortSignal): Promise<void> {
  const [inRedis, inStore] = await Promise.all([
    deps.redis.hexists(redisKeys.batch(id), 'cancel_requested_at'),
    readCancel(deps.store, id, signal),
  ]);
  if (inStore !== undefined) await deps.redis.hsetnx(redisKeys.batch(id), 'cancel_requested_at', inStore);
  else if (inRedis === 1) await raiseCancel(deps, id, signal);
}
