import type { Manifest, ManifestHeader } from '../contracts/manifest.js';
import type { WorkItem } from '../contracts/work-item.js';
import { ifFound, LonghaulError, StoreError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import { reach } from '../platform/test-points.js';
import { canonicalJson } from './canonical.js';
import { mapConcurrently } from './concurrency.js';
import { contentDigest, draftOf, requestLine, type BatchDraft } from './draft.js';
import { readHeader } from './header.js';
import { indexManifest, type BatchIndex } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { refuseHalfRemoved } from './remove.js';
import { restoreBatch } from './restore.js';

const WRITERS = 16;

export interface Created {
  id: string;
  /** False: it was there before. */
  created: boolean;
}

/** `createBatchFrom` of a batch that is in memory. */
export async function createBatch(
  deps: BatchDeps,
  manifest: Manifest,
  items: readonly WorkItem[],
  signal?: AbortSignal,
): Promise<Created> {
  const { header } = manifest;
  if (items.length !== header.totals.items) {
    throw misfit(header, `there are ${items.length} of them, its totals say ${header.totals.items}`);
  }
  const { created } = await createBatchFrom(deps, draftOf(manifest, items), { signal });
  return { id: header.batch_id, created };
}

export interface CreateOptions {
  onProgress?: (progress: { done: number; total: number }) => void;
  signal?: AbortSignal;
}

/**
 * Creates a batch, or finds that it exists: work items first, then the manifest (from here on the
 * batch exists), then Redis. Whoever dies in between is made good by the next submit of the same
 * batch or by the reconciler. The document objects must be in S3 already. Returns the header that
 * counts: of a batch that exists, its own.
 * @throws LonghaulError `MANIFEST` when manifest and items contradict each other, StoreError
 * `CONFLICT` when another batch has this id, LonghaulError `HALF_REMOVED`.
 */
export async function createBatchFrom(
  deps: BatchDeps,
  draft: BatchDraft,
  { onProgress, signal }: CreateOptions = {},
): Promise<{ created: boolean; header: ManifestHeader }> {
  const { header } = draft;
  const index = indexManifest(draft);
  const known = await readExisting(deps, header.batch_id, signal);
  if (known !== undefined) return joinBatch(deps, draft, index, known, signal);
  await refuseHalfRemoved(deps, header.batch_id, signal);

  const total = index.items.length;
  let done = 0;
  const write = async (item: number): Promise<void> => {
    await writeItem(deps, await checkedItem(draft, index, item), signal);
    onProgress?.({ done: ++done, total });
  };
  await mapConcurrently([...index.items.keys()], WRITERS, write, signal);
  reach('items');
  const key = objectKeys.manifest(header.batch_id);
  if ((await deps.store.createStream(key, manifestLines(draft), signal)) === 'exists') {
    const first = await readExisting(deps, header.batch_id, signal);
    if (first === undefined) throw new StoreError('CONFLICT', `${deps.store.url(key)} came and went`);
    const joined = await joinBatch(deps, draft, index, first, signal);
    // Both wrote the items; their expiry must be that of the manifest.
    if (joined.header.expires_at !== header.expires_at) {
      const rewrite = async (item: number) =>
        writeItem(deps, { ...(await draft.readItem(item)), expires_at: joined.header.expires_at }, signal);
      await mapConcurrently([...index.items.keys()], WRITERS, rewrite, signal);
    }
    return joined;
  }
  reach('manifest');
  await restoreBatch(deps, index, signal);
  return { created: true, header };
}

async function* manifestLines(draft: BatchDraft): AsyncGenerator<Buffer> {
  yield Buffer.from(canonicalJson(draft.header) + '\n');
  for (const { ordinal } of draft.requests) yield Buffer.from(requestLine(await draft.readRequest(ordinal)));
}

interface Existing {
  header: ManifestHeader;
  content: string;
}

async function readExisting(
  { store }: BatchDeps,
  id: string,
  signal?: AbortSignal,
): Promise<Existing | undefined> {
  const header = await ifFound(readHeader(store, id, signal));
  if (header === undefined) return undefined;
  const digest = contentDigest(header);
  let inHeader = true;
  for await (const chunk of await store.openUrl(store.url(objectKeys.manifest(id)), signal)) {
    const start = inHeader ? chunk.indexOf(10) + 1 : 0;
    if (inHeader && start === 0) continue;
    inHeader = false;
    digest.update(chunk.subarray(start));
  }
  return { header, content: digest.hex() };
}

/** The batch exists: its own manifest counts, and what is still missing in Redis is added. */
async function joinBatch(
  deps: BatchDeps,
  { content }: BatchDraft,
  index: BatchIndex,
  theirs: Existing,
  signal?: AbortSignal,
): Promise<{ created: boolean; header: ManifestHeader }> {
  const { header } = theirs;
  if (content !== theirs.content) {
    throw new StoreError(
      'CONFLICT',
      `batch ${header.batch_id} exists with other requests, options or model; submit with --new to make another batch`,
    );
  }
  const finished = await deps.store.exists(objectKeys.success(header.batch_id), signal);
  if (!finished) await restoreBatch(deps, { ...index, header }, signal);
  return { created: false, header };
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

async function checkedItem(draft: BatchDraft, index: BatchIndex, number: number): Promise<WorkItem> {
  const { batch_id } = draft.header;
  const item = await draft.readItem(number);
  const expected = (index.items[number] ?? []).map(({ ordinal }) => ordinal).join(',');
  const given = item.requests
    .map(({ ordinal }) => ordinal)
    .sort((a, b) => a - b)
    .join(',');
  if (item.index !== number || item.batch_id !== batch_id || given !== expected) {
    const what = `item ${number} is ${item.batch_id}/${item.index} with ordinals ${given}, not ${expected}`;
    throw misfit(draft.header, what);
  }
  return item;
}

function misfit({ batch_id }: ManifestHeader, what: string): LonghaulError {
  return new LonghaulError(
    'MANIFEST',
    `the work items of batch ${batch_id} do not fit its manifest: ${what}`,
  );
}
