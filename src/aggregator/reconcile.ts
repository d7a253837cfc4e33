import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { chunks, mapConcurrently } from '../batch/concurrency.js';
import { redisNow, unixNow } from '../batch/flags.js';
import { readHeader } from '../batch/header.js';
import { dropBatch, recordFinished, registerBatch } from '../batch/record.js';
import { finishedAt, readSuccess } from '../batch/success.js';
import { outcome } from '../contracts/outcome.js';
import type { Config } from '../platform/config.js';
import { describeError, NotFoundError } from '../platform/errors.js';
import { objectKeys, redisKeys } from '../platform/keys.js';
import { restoredItems } from '../platform/metrics.js';
import { isLiving, restoreLiving, type AggregatorContext } from './context.js';
import { everyQueue, shortenLife, shortenLocks, wakeMisdated } from './misdated.js';
import { startThen } from './then.js';

const outcomeStatuses = outcome.shape.status.options;

/** KEYS lock; ARGV token, milliseconds (0: release). */
const HOLD = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** A batch that needs nothing is looked into once in so many passes, at least; half of it at the earliest. */
const SLOW = 10;
/** Batches of which Redis is asked at once, and those looked into at once. */
const CHUNK = 256;
const LOOKERS = 4;

/** What this process knows from earlier passes; worth nothing once Redis was emptied. */
class Memory {
  private incarnation = '';
  private pass = 0;
  /** Batches that have `_SUCCESS`, which never goes again: Redis need not know them. */
  readonly finished = new Set<string>();
  private readonly due = new Map<string, number>();

  begin(incarnation: string): void {
    this.pass += 1;
    if (incarnation === this.incarnation) return;
    this.incarnation = incarnation;
    this.finished.clear();
    this.due.clear();
  }

  isDue(id: string): boolean {
    return (this.due.get(id) ?? 0) <= this.pass;
  }

  /** Spread, so that batches that came together are not looked into together. */
  looked(id: string): void {
    this.due.set(id, this.pass + SLOW / 2 + Math.floor(Math.random() * (SLOW / 2 + 1)));
  }

  /** Keeps only what S3 still has. */
  retain(ids: ReadonlySet<string>): void {
    for (const known of [this.finished, this.due]) {
      for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
    }
  }
}

/** Passes over all batches until the signal comes. */
export async function runReconciler(context: AggregatorContext, signal: AbortSignal): Promise<void> {
  const { logger, config } = context;
  const memory = new Memory();
  while (!signal.aborted) {
    try {
      await guardedPass(context, memory, signal);
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
async function guardedPass(context: AggregatorContext, memory: Memory, signal: AbortSignal): Promise<void> {
  const { redis, config } = context;
  const key = redisKeys.reconciler();
  const token = randomUUID();
  const life = config.timings.reconcile * 3;
  if ((await redis.set(key, token, 'PX', life, 'NX')) === null) return shortenLife(redis, key, life);
  try {
    await redis.setnx(redisKeys.incarnation(), token);
    memory.begin((await redis.get(redisKeys.incarnation())) ?? '');
    await reconcile(context, memory, signal, () => redis.eval(HOLD, 1, key, token, life));
  } finally {
    await redis.eval(HOLD, 1, key, token, 0).catch(() => undefined);
  }
}

async function reconcile(
  context: AggregatorContext,
  memory: Memory,
  signal: AbortSignal,
  renew: () => Promise<unknown>,
): Promise<void> {
  const { redis, store, logger } = context;
  const now = await redisNow(redis);
  const queues = await everyQueue(redis, context.queues);
  await shortenLocks(context, queues);
  await wakeMisdated(context, queues, now);
  // Before S3 is listed: what Redis knew by then and the list lacks is gone.
  const known = await redis.zrange(redisKeys.batches(), '0', '-1');
  const seen = new Set<string>();
  for await (const id of store.listFolders(objectKeys.batches(), signal)) seen.add(id);
  const finished: Finished[] = [];
  for (const chunk of chunks([...seen], CHUNK)) {
    // One round trip: commands of one client that are given at once travel together.
    const looks = await Promise.all(chunk.map(async (id) => ({ id, ...(await glance(redis, id, now)) })));
    const open = looks.filter(({ id, isKnown, finishedAt, needsHelp }) => {
      if (finishedAt !== undefined) {
        memory.finished.add(id);
        finished.push({ id, finishedAt });
        return false;
      }
      // One that had ended and has not: Redis went back in time.
      const hadEnded = memory.finished.has(id);
      return isKnown ? needsHelp || hadEnded || memory.isDue(id) : !hadEnded;
    });
    const look = async ({ id, isKnown }: (typeof open)[number]): Promise<void> => {
      try {
        await lookInto(context, memory, id, isKnown, signal);
        memory.looked(id);
      } catch (error) {
        if (signal.aborted) throw error;
        // One batch in trouble must not hold up the others.
        logger.warn({ batch: id, ...describeError(error) }, 'reconciler: batch skipped in this pass');
      }
      await renew();
    };
    await mapConcurrently(open, LOOKERS, look, signal);
    await renew();
  }
  memory.retain(seen);
  await trim(context, finished);
  for (const id of known) {
    if (seen.has(id) || (await isLiving(context, id, signal))) continue;
    logger.warn({ batch: id }, 'reconciler: S3 has no such batch (any more), Redis forgets it');
    await dropBatch(redis, id, { ifFinished: false });
  }
}

interface Glance {
  isKnown: boolean;
  finishedAt?: number;
  /** It does not come to its end by itself: half enqueued, ending, or waiting for its files. */
  needsHelp: boolean;
}

/** All that can be told from Redis alone. */
async function glance(redis: AggregatorContext['redis'], id: string, now: number): Promise<Glance> {
  const [total, enqueued, finished, cancel, expires, ...ended] = await redis.hmget(
    redisKeys.batch(id),
    'total',
    'enqueued_at',
    'completed_at',
    'cancel_requested_at',
    'expires_at',
    ...outcomeStatuses,
  );
  if (typeof total !== 'string') return { isKnown: false, needsHelp: true };
  if (typeof finished === 'string') return { isKnown: true, finishedAt: Number(finished), needsHelp: false };
  const isEnding = typeof cancel === 'string' || (typeof expires === 'string' && now >= Number(expires));
  const count = ended.reduce((sum, one) => sum + Number(one ?? 0), 0);
  return {
    isKnown: true,
    needsHelp: typeof enqueued !== 'string' || isEnding || count >= Number(total),
  };
}

async function lookInto(
  context: AggregatorContext,
  memory: Memory,
  id: string,
  isKnown: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { redis, store, logger, manifests, config } = context;
  // Unknown to Redis: removed, perhaps, and then a manifest in memory is not to be believed.
  if (!isKnown) manifests.drop(id);
  const success = await readSuccess(store, id, signal);
  try {
    if (success === undefined) {
      const restored = await restoreLiving(context, await manifests.get(id), signal);
      if (restored !== undefined && restored.enqueued > 0) {
        restoredItems.inc(restored.enqueued);
        logger.info({ batch: id, ...restored }, 'reconciler: items enqueued');
      }
      return;
    }
    const header = await readHeader(store, id, signal);
    const then = await startThen(context, header, success, signal);
    const at = await finishedAt(store, id, signal);
    if (isKnown || isKept(config, at)) {
      await registerBatch(redis, header);
      await recordFinished(redis, id, success, at, then);
    }
    memory.finished.add(id);
    manifests.drop(id);
  } catch (error) {
    // A submit that died, or is still writing, before its manifest; or a batch half removed: there is none.
    if (!(error instanceof NotFoundError)) throw error;
  }
}

interface Finished {
  id: string;
  /** Unix seconds. */
  finishedAt: number;
}

function isKept({ keepFinishedDays }: Config, finishedAt: number): boolean {
  return finishedAt >= unixNow() - keepFinishedDays * 24 * 3600;
}

/** Finished batches leave Redis some day; S3 has all of them. */
async function trim({ redis, config, logger }: AggregatorContext, finished: Finished[]): Promise<void> {
  const newest = finished.sort((a, b) => b.finishedAt - a.finishedAt);
  const dropped = newest.filter(
    ({ finishedAt }, index) => index >= config.keepFinishedBatches || !isKept(config, finishedAt),
  );
  for (const { id } of dropped) await dropBatch(redis, id, { ifFinished: true });
  if (dropped.length > 0) logger.info({ batches: dropped.length }, 'reconciler: finished batches left Redis');
}
