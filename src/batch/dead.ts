/** Work items that ended cohorts, as S3 keeps them. */
import { deadItem, type DeadItem } from '../contracts/dead.js';
import type { ItemFailure } from '../contracts/work-item.js';
import { LonghaulError, NotFoundError, StoreError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { canonicalJson } from './canonical.js';
import { mapConcurrently } from './concurrency.js';
import { checkBatchId, type IndexedManifest } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { retryBatch, type Retried, type RetryInput } from './retry.js';
import { READERS } from './sync.js';

/** The failure of an item that is not tried again; it comes with a history. */
export const POISON = 'POISON';

/** `<batch>/<item>`, as people name one. */
export const deadId = ({ batch_id, item }: Pick<DeadItem, 'batch_id' | 'item'>): string =>
  `${batch_id}/${item}`;

/** A pure function of its arguments, like the outcomes: whoever commits the item again writes the same. The first stands. */
export async function recordDead(
  store: ObjectStore,
  manifest: IndexedManifest,
  item: number,
  { code, message, history = [] }: ItemFailure,
  signal?: AbortSignal,
): Promise<void> {
  const requests = manifest.items[item] ?? [];
  const [first] = requests;
  if (first === undefined) return;
  const dead: DeadItem = {
    format: 'longhaul-dead/1',
    batch_id: manifest.header.batch_id,
    item,
    document: first.document,
    custom_ids: requests.map(({ custom_id }) => custom_id),
    code,
    message,
    history,
  };
  await store.create(objectKeys.deadItem(dead.batch_id, item), canonicalJson(dead) + '\n', signal);
}

/** All dead items, or those of one batch; by batch and item, at most `limit`. */
export async function listDead(
  { store }: Pick<BatchDeps, 'store'>,
  { batch, limit = Infinity }: { batch?: string; limit?: number } = {},
  signal?: AbortSignal,
): Promise<DeadItem[]> {
  const prefix = batch === undefined ? objectKeys.dead() : objectKeys.deadOf(checkBatchId(batch));
  const keys: string[] = [];
  for await (const key of store.list(prefix, signal)) if (keys.push(key) >= limit) break;
  const found = await mapConcurrently(keys, READERS, (key) => read(store, key, signal), signal);
  return found.sort((a, b) =>
    a.batch_id === b.batch_id ? a.item - b.item : a.batch_id < b.batch_id ? -1 : 1,
  );
}

/**
 * What a person names: one item (`<batch>/<item>`), or all dead items of a batch.
 * @throws NotFoundError when there is none.
 */
export async function findDead(
  deps: Pick<BatchDeps, 'store'>,
  name: string,
  signal?: AbortSignal,
): Promise<DeadItem[]> {
  const { batch, item } = parseName(name);
  if (item !== undefined) {
    try {
      return [await read(deps.store, objectKeys.deadItem(batch, item), signal)];
    } catch (error) {
      throw error instanceof NotFoundError ? nothingDead(name) : error;
    }
  }
  const found = await listDead(deps, { batch }, signal);
  if (found.length === 0) throw nothingDead(name);
  return found;
}

/**
 * Tries dead items again, in a new batch: a retry of their requests and no others. The records stay
 * until they are dropped.
 * @throws what `retryBatch` throws; NotFoundError.
 */
export async function redriveDead(
  deps: BatchDeps,
  name: string,
  input: Omit<RetryInput, 'only' | 'items'> = {},
  signal?: AbortSignal,
): Promise<Retried> {
  const dead = await findDead(deps, name, signal);
  const items = new Set(dead.map(({ item }) => item));
  return retryBatch(deps, parseName(name).batch, { ...input, only: ['failed'], items }, signal);
}

/** Removes the records, and nothing else: outcomes stay as they are. Returns what was removed. */
export async function dropDead(
  deps: Pick<BatchDeps, 'store'>,
  name: string,
  signal?: AbortSignal,
): Promise<DeadItem[]> {
  const dead = await findDead(deps, name, signal);
  for (const { batch_id, item } of dead) await deps.store.delete(objectKeys.deadItem(batch_id, item), signal);
  return dead;
}

function parseName(name: string): { batch: string; item?: number } {
  const match = /^([^/]+)(?:\/(\d{1,9}))?$/.exec(name);
  if (match?.[1] === undefined) {
    throw new LonghaulError(
      'DEAD_NAME',
      `${JSON.stringify(name)} names no dead item; give BATCH or BATCH/ITEM`,
    );
  }
  return { batch: checkBatchId(match[1]), item: match[2] === undefined ? undefined : Number(match[2]) };
}

function nothingDead(name: string): NotFoundError {
  return new NotFoundError(`there is no dead item ${name}; \`longhaul dead list\` lists them`);
}

async function read(store: ObjectStore, key: string, signal?: AbortSignal): Promise<DeadItem> {
  const bytes = await store.get(key, signal);
  try {
    return deadItem.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new StoreError('DEAD_CORRUPT', `${store.url(key)} is not the record of a dead item`, { cause });
  }
}
