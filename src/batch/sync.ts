import { objectKeys } from '../platform/keys.js';
import { chunks, mapConcurrently } from './concurrency.js';
import type { BatchIndex } from './manifest.js';
import { decodeOutcome } from './outcomes.js';
import type { BatchDeps } from './queues.js';
import { forgetOutcomes, recordedOrdinals, recordOutcomes, type Committed } from './record.js';
import { totalsOf } from './totals.js';

/** Objects read at the same time, here and wherever outcomes are read in bulk. */
export const READERS = 16;

export interface Synced {
  /** Ordinals with an outcome in S3. */
  done: Set<number>;
  /** Those of them that Redis did not know. */
  added: number[];
}

/** Ordinals for which `outcomes/` has the object that the manifest expects. */
export async function listOutcomes(
  deps: Pick<BatchDeps, 'store'>,
  manifest: BatchIndex,
  signal?: AbortSignal,
): Promise<Set<number>> {
  const id = manifest.header.batch_id;
  const folder = objectKeys.outcomes(id);
  const done = new Set<number>();
  for await (const key of deps.store.list(folder, signal)) {
    const ordinal = Number.parseInt(key.slice(folder.length), 10);
    const request = manifest.requests[ordinal];
    if (request !== undefined && objectKeys.outcome(id, ordinal, request.custom_id) === key)
      done.add(ordinal);
  }
  return done;
}

/**
 * Brings the record in Redis into line with the outcomes in S3, in both directions. Redis is read
 * first: what it knew before the listing began was in S3 by then, so what the listing lacks is lost.
 */
export async function syncRecord(
  deps: BatchDeps,
  manifest: BatchIndex,
  signal?: AbortSignal,
): Promise<Synced> {
  const id = manifest.header.batch_id;
  const recorded = await recordedOrdinals(deps.redis, id);
  const done = await listOutcomes(deps, manifest, signal);
  const lost = [...recorded].filter((ordinal) => !done.has(ordinal));
  for (const chunk of chunks(lost, 1000)) await forgetOutcomes(deps.redis, id, chunk);

  const unknown = [...done].filter((ordinal) => !recorded.has(ordinal));
  for (const chunk of chunks(unknown, 500)) {
    const committed = await mapConcurrently(
      chunk,
      READERS,
      async (ordinal): Promise<Committed> => {
        const customId = manifest.requests[ordinal]?.custom_id ?? '';
        const bytes = await deps.store.get(objectKeys.outcome(id, ordinal, customId), signal);
        const outcome = decodeOutcome(bytes, id, ordinal);
        return { ordinal, status: outcome.status, totals: totalsOf(manifest, outcome) };
      },
      signal,
    );
    await recordOutcomes(deps.redis, id, committed);
  }
  return { done, added: unknown };
}
