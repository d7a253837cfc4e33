import type { ManifestHeader } from '../contracts/manifest.js';
import { ifFound, LonghaulError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { readHeader } from './header.js';

interface Retry {
  header: ManifestHeader;
  /** 1: of the batch itself, 2: of such a retry, ... */
  depth: number;
}

/** Retries of a batch, and their retries, oldest first. */
export async function findRetries(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<ManifestHeader[]> {
  const found = new Map<string, Retry>();
  const open = [{ parent: id, depth: 1 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { parent, depth } = next;
    const folder = objectKeys.retries(parent);
    for await (const key of store.list(folder, signal)) {
      const header = await ifFound(readHeader(store, key.slice(folder.length), signal));
      // A retry that was removed, or died before its manifest, is none.
      if (header?.retry_of !== parent || found.has(header.batch_id)) continue;
      found.set(header.batch_id, { header, depth });
      open.push({ parent: header.batch_id, depth: depth + 1 });
    }
  }
  return byAge([...found.values()]);
}

/**
 * The headers of retries that a person named, oldest first.
 * @throws LonghaulError `NOT_A_RETRY` for a batch whose `retry_of` does not lead to `id`, NotFoundError.
 */
export async function checkRetries(
  store: ObjectStore,
  id: string,
  named: readonly string[],
  signal?: AbortSignal,
): Promise<ManifestHeader[]> {
  const found: Retry[] = [];
  for (const retry of new Set(named)) {
    const header = await readHeader(store, retry, signal);
    let depth = 1;
    let parent = header.retry_of;
    for (; parent !== null && parent !== id; depth++)
      parent = (await readHeader(store, parent, signal)).retry_of;
    if (parent === null)
      throw new LonghaulError('NOT_A_RETRY', `batch ${retry} is not a retry of batch ${id}`);
    found.push({ header, depth });
  }
  return byAge(found);
}

/** Times are whole seconds: within one, a retry is older than its own retry. */
function byAge(retries: Retry[]): ManifestHeader[] {
  retries.sort(
    (a, b) =>
      a.header.created_at - b.header.created_at ||
      a.depth - b.depth ||
      (a.header.batch_id < b.header.batch_id ? -1 : 1),
  );
  return retries.map(({ header }) => header);
}
