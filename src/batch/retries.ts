import type { ManifestHeader } from '../contracts/manifest.js';
import { LonghaulError, NotFoundError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { readHeader } from './header.js';

/** Retries of a batch, and their retries, oldest first. */
export async function findRetries(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<ManifestHeader[]> {
  const found = new Map<string, ManifestHeader>();
  const open = [id];
  for (let parent = open.pop(); parent !== undefined; parent = open.pop()) {
    const folder = objectKeys.retries(parent);
    for await (const key of store.list(folder, signal)) {
      const header = await tryHeader(store, key.slice(folder.length), signal);
      // A retry that was removed, or died before its manifest, is none.
      if (header?.retry_of !== parent || found.has(header.batch_id)) continue;
      found.set(header.batch_id, header);
      open.push(header.batch_id);
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
  const headers = await Promise.all([...new Set(named)].map((retry) => readHeader(store, retry, signal)));
  for (const header of headers) {
    let parent = header.retry_of;
    while (parent !== null && parent !== id) parent = (await readHeader(store, parent, signal)).retry_of;
    if (parent === null)
      throw new LonghaulError('NOT_A_RETRY', `batch ${header.batch_id} is not a retry of batch ${id}`);
  }
  return byAge(headers);
}

async function tryHeader(store: ObjectStore, id: string, signal?: AbortSignal) {
  try {
    return await readHeader(store, id, signal);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

function byAge(headers: ManifestHeader[]): ManifestHeader[] {
  return headers.sort((a, b) => a.created_at - b.created_at || (a.batch_id < b.batch_id ? -1 : 1));
}
