import type { ManifestHeader } from '../contracts/manifest.js';
import type { BatchStatus } from '../contracts/status.js';
import { ifFound, NotFoundError } from '../platform/errors.js';
import { objectKeys, redisKeys } from '../platform/keys.js';
import { chunks, mapConcurrently } from './concurrency.js';
import { readHeader } from './header.js';
import { checkBatchId } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { getStatuses } from './status.js';
import { READERS } from './sync.js';

export interface ListOptions {
  limit?: number;
  /** Only batches older than this one: the last of the page before. */
  before?: string;
  /** All that S3 has, also those that Redis has dropped; reads the head of each manifest. */
  all?: boolean;
}

/**
 * The newest batches first: what Redis knows, or S3 where that is nothing.
 * @throws NotFoundError for a `before` that nobody knows.
 */
export async function listBatches(
  deps: BatchDeps,
  { limit = 100, before, all = false }: ListOptions = {},
  signal?: AbortSignal,
): Promise<BatchStatus[]> {
  const ids =
    (all ? undefined : await idsOfRedis(deps, limit, before)) ??
    (await idsOfStore(deps, limit, before, signal));
  return getStatuses(deps, ids, signal);
}

/** Undefined: Redis knows no batch, or not the one asked for. */
async function idsOfRedis(
  { redis }: BatchDeps,
  limit: number,
  before: string | undefined,
): Promise<string[] | undefined> {
  const key = redisKeys.batches();
  let start = 0;
  if (before !== undefined) {
    const rank = await redis.zrevrank(key, checkBatchId(before));
    if (rank === null) return undefined;
    start = rank + 1;
  }
  const ids = await redis.zrevrange(key, start, start + limit - 1);
  return ids.length === 0 && start === 0 ? undefined : ids;
}

/** S3 has no order of time, so all headers are read. */
async function idsOfStore(
  { store }: BatchDeps,
  limit: number,
  before: string | undefined,
  signal?: AbortSignal,
): Promise<string[]> {
  const folders: string[] = [];
  for await (const id of store.listFolders(objectKeys.batches(), signal)) folders.push(id);
  const headers: Pick<ManifestHeader, 'batch_id' | 'created_at'>[] = [];
  for (const chunk of chunks(folders, 1000)) {
    const read = await mapConcurrently(
      chunk,
      READERS,
      (id) => ifFound(readHeader(store, id, signal)),
      signal,
    );
    for (const header of read) {
      // None of a submit under way, or a batch being removed.
      if (header !== undefined) headers.push({ batch_id: header.batch_id, created_at: header.created_at });
    }
  }
  // As Redis orders them.
  headers.sort((a, b) => b.created_at - a.created_at || (a.batch_id < b.batch_id ? 1 : -1));
  const start = before === undefined ? 0 : headers.findIndex(({ batch_id }) => batch_id === before) + 1;
  if (before !== undefined && start === 0)
    throw new NotFoundError(`there is no batch ${JSON.stringify(before)} to list from`);
  return headers.slice(start, start + limit).map(({ batch_id }) => batch_id);
}
