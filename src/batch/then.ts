/** The second batch of a batch with parts: its name, and what became of it. */
import { createHash } from 'node:crypto';
import { thenRecord, type ManifestHeader, type ThenRecord } from '../contracts/manifest.js';
import { ifFound, StoreError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';

/** The same for whoever starts it: two aggregators start one batch. */
export function thenId({ batch_id, created_at }: Pick<ManifestHeader, 'batch_id' | 'created_at'>): string {
  // With the creation: a batch of the same id that was removed had a second one of its own.
  const hash = createHash('sha256').update(`then ${batch_id} ${created_at}`).digest('hex');
  return `batch_${hash.slice(0, 32)}`;
}

/** Undefined: of a batch without a `then`, or whose second one nobody has started yet. @throws StoreError */
export async function readThen(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<ThenRecord | undefined> {
  const key = objectKeys.then(id);
  const bytes = await ifFound(store.get(key, signal));
  if (bytes === undefined) return undefined;
  try {
    return thenRecord.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new StoreError(
      'THEN_CORRUPT',
      `${store.url(key)} is not what longhaul writes there; delete it, and the second batch is started again`,
      { cause },
    );
  }
}
