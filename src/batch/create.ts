import type { Manifest } from '../contracts/manifest.js';
import type { WorkItem } from '../contracts/work-item.js';
import { LonghaulError, StoreError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import { canonicalJson } from './canonical.js';
import { mapConcurrently } from './concurrency.js';
import { createManifest, indexManifest, readManifest, type IndexedManifest } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { restoreBatch } from './restore.js';

const WRITERS = 16;

/**
 * Creates a batch, or finds that it exists: work items first, then the manifest (from here on the
 * batch exists), then Redis. Whoever dies in between is made good by the next submit of the same
 * batch or by the reconciler. The document objects must be in S3 already.
 * @throws LonghaulError `MANIFEST` when manifest and items contradict each other, StoreError
 * `CONFLICT` when another batch has this id.
 */
export async function createBatch(
  deps: BatchDeps,
  manifest: Manifest,
  items: WorkItem[],
  signal?: AbortSignal,
): Promise<{ id: string; created: boolean }> {
  const indexed = indexManifest(manifest);
  checkItems(indexed, items);
  const id = manifest.header.batch_id;

  const known = await readExisting(deps, id, signal);
  if (known !== undefined) return joinBatch(deps, indexed, known, signal);

  await mapConcurrently(items, WRITERS, (item) => writeItem(deps, item, signal), signal);
  if ((await createManifest(deps.store, manifest, signal)) === 'exists') {
    return joinBatch(deps, indexed, await readManifest(deps.store, id, signal), signal);
  }
  await restoreBatch(deps, indexed, signal);
  return { id, created: true };
}

async function readExisting(
  deps: BatchDeps,
  id: string,
  signal?: AbortSignal,
): Promise<IndexedManifest | undefined> {
  if (!(await deps.store.exists(objectKeys.manifest(id), signal))) return undefined;
  return readManifest(deps.store, id, signal);
}

/** The batch exists: its own manifest counts, and what is still missing in Redis is added. */
async function joinBatch(
  deps: BatchDeps,
  ours: IndexedManifest,
  theirs: IndexedManifest,
  signal?: AbortSignal,
): Promise<{ id: string; created: boolean }> {
  const id = ours.header.batch_id;
  if (identity(ours) !== identity(theirs)) {
    throw new StoreError(
      'CONFLICT',
      `batch ${id} exists with other requests, options or model; submit with --new to make another batch`,
    );
  }
  if (!(await deps.store.exists(objectKeys.success(id), signal))) await restoreBatch(deps, theirs, signal);
  return { id, created: false };
}

/** Everything but when it was submitted, until when it may run, and under which file name. */
function identity({ header, requests }: Manifest): string {
  return canonicalJson({ header: { ...header, created_at: 0, expires_at: null, input: '' }, requests });
}

/**
 * Leftovers of a submit that died before its manifest may carry its older expiry; nobody has used
 * them, so they are replaced. Any other difference means another batch.
 */
async function writeItem(deps: BatchDeps, item: WorkItem, signal?: AbortSignal): Promise<void> {
  const key = objectKeys.item(item.batch_id, item.index);
  const body = canonicalJson(item) + '\n';
  if ((await deps.store.create(key, body, signal)) === 'created') return;
  const found = (await deps.store.get(key, signal)).toString('utf8');
  if (found === body) return;
  const withoutExpiry = (text: string) =>
    canonicalJson({ ...(JSON.parse(text) as Partial<WorkItem>), expires_at: null });
  if (withoutExpiry(found) !== withoutExpiry(body)) {
    throw new StoreError('CONFLICT', `${deps.store.url(key)} exists with other content`);
  }
  await deps.store.put(key, [Buffer.from(body)], signal);
}

function checkItems(manifest: IndexedManifest, items: WorkItem[]): void {
  const { header } = manifest;
  const refuse = (what: string) =>
    new LonghaulError(
      'MANIFEST',
      `the work items of batch ${header.batch_id} do not fit its manifest: ${what}`,
    );
  if (items.length !== manifest.items.length) {
    throw refuse(`${items.length} items, the manifest has ${manifest.items.length}`);
  }
  items.forEach((item, index) => {
    const expected = (manifest.items[index] ?? []).map(({ ordinal }) => ordinal).join(',');
    const given = item.requests
      .map(({ ordinal }) => ordinal)
      .sort((a, b) => a - b)
      .join(',');
    if (item.index !== index || item.batch_id !== header.batch_id || given !== expected) {
      throw refuse(`item ${index} is ${item.batch_id}/${item.index} with ordinals ${given}, not ${expected}`);
    }
  });
}
