import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { recordFinished, registerBatch } from '../batch/record.js';
import { restoreBatch } from '../batch/restore.js';
import { finishedAt, readSuccess } from '../batch/success.js';
import { describeError, NotFoundError } from '../platform/errors.js';
import { objectKeys, redisKeys } from '../platform/keys.js';
import type { AggregatorContext } from './context.js';

/** KEYS lock; ARGV token, milliseconds (0: release). */
const HOLD = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** Passes over all batches until the signal comes. */
export async function runReconciler(context: AggregatorContext, signal: AbortSignal): Promise<void> {
  const { logger, config } = context;
  while (!signal.aborted) {
    try {
      await guardedPass(context, signal);
    } catch (error) {
      if (!signal.aborted)
        logger.warn(describeError(error), 'reconciler: pass given up, the next one follows');
    }
    await sleep(config.timings.reconcile, undefined, { signal }).catch(() => undefined);
  }
}

/**
 * One pass, unless another aggregator makes it. The lock saves work, it protects nothing: everything
 * in a pass may be done by several at once.
 */
async function guardedPass(context: AggregatorContext, signal: AbortSignal): Promise<void> {
  const { redis, config } = context;
  const key = redisKeys.reconciler();
  const token = randomUUID();
  const life = config.timings.reconcile * 3;
  if ((await redis.set(key, token, 'PX', life, 'NX')) === null) return;
  try {
    await reconcile(context, signal, () => redis.eval(HOLD, 1, key, token, life));
  } finally {
    await redis.eval(HOLD, 1, key, token, 0).catch(() => undefined);
  }
}

async function reconcile(
  context: AggregatorContext,
  signal: AbortSignal,
  renew: () => Promise<unknown>,
): Promise<void> {
  for await (const id of context.store.listFolders(objectKeys.batches(), signal)) {
    signal.throwIfAborted();
    try {
      await reconcileBatch(context, id, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // One batch in trouble must not hold up the others.
      context.logger.warn({ batch: id, ...describeError(error) }, 'reconciler: batch skipped in this pass');
    }
    await renew();
  }
}

async function reconcileBatch(context: AggregatorContext, id: string, signal: AbortSignal): Promise<void> {
  const { redis, store, logger, manifests } = context;
  if ((await redis.hexists(redisKeys.batch(id), 'completed_at')) === 1) return;
  const success = await readSuccess(store, id, signal);
  let manifest;
  try {
    manifest = await manifests.get(id);
  } catch (error) {
    // A submit that died, or is still writing, before its manifest: there is no batch yet.
    if (error instanceof NotFoundError) return;
    throw error;
  }
  if (success !== undefined) {
    await registerBatch(redis, manifest.header);
    await recordFinished(redis, id, success.counts, await finishedAt(store, id, signal));
    manifests.drop(id);
    return;
  }
  const { pending, enqueued } = await restoreBatch(context, manifest, signal);
  if (enqueued > 0) logger.info({ batch: id, pending, enqueued }, 'reconciler: items enqueued');
}
