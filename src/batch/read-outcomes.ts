import type { Outcome } from '../contracts/outcome.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { chunks, mapConcurrently } from './concurrency.js';
import type { IndexedManifest } from './manifest.js';
import { decodeOutcome } from './outcomes.js';
import { READERS } from './sync.js';

/** The outcomes of these ordinals, in their order; at most a window of them in memory. */
export async function* readOutcomes(
  store: ObjectStore,
  manifest: IndexedManifest,
  ordinals: readonly number[],
  signal?: AbortSignal,
): AsyncGenerator<Outcome> {
  const id = manifest.header.batch_id;
  const read = async (ordinal: number): Promise<Outcome> => {
    const key = objectKeys.outcome(id, ordinal, manifest.requests[ordinal]?.custom_id ?? '');
    return decodeOutcome(await store.get(key, signal), id, ordinal);
  };
  for (const window of chunks(ordinals, READERS * 4)) {
    yield* await mapConcurrently(window, READERS, read, signal);
  }
}
