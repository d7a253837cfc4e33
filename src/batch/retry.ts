/** A new batch of those requests of a finished one that have no answer. */
import type { Manifest, ManifestHeader, ManifestRequest } from '../contracts/manifest.js';
import type { Success } from '../contracts/outcome.js';
import { runOptions } from '../contracts/request.js';
import { workItem, type WorkItem } from '../contracts/work-item.js';
import { LonghaulError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { batchId } from './batch-id.js';
import { canonicalJson } from './canonical.js';
import { mapConcurrently } from './concurrency.js';
import { createBatchFrom } from './create.js';
import { keepDocuments } from './documents.js';
import { draftOf } from './draft.js';
import { unixNow } from './flags.js';
import { readManifest, type IndexedManifest } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { requireSuccess } from './success.js';
import { READERS } from './sync.js';
import { readUnanswered, type Unanswered } from './unanswered.js';

/** The ends of a request that a retry may take up. */
export const RETRYABLE: readonly Unanswered[] = ['failed', 'expired', 'cancelled'];

export interface RetryInput {
  /** Which ends. Default: failed and expired; who cancelled did not want an answer. */
  only?: readonly Unanswered[];
  /** Only requests of these work items of the source. */
  items?: ReadonlySet<number>;
  /** Another number of ranks: the source's cohort may be what was wrong. */
  ranks?: number;
  /** From now; default: as long as the source had. */
  windowSeconds?: number;
  priority?: number;
  /** Draws a random id: another retry, whatever was retried before. */
  isNew?: boolean;
}

export interface Retried {
  id: string;
  /** False: the same requests had been retried in the same way before. */
  created: boolean;
  /** Of a batch that was there, its own. */
  header: ManifestHeader;
}

/**
 * The chosen requests with their custom_ids, options and digests; documents stay where they are and
 * queries come from the source's work items, so nothing is read or tokenised again. Outcomes of the
 * source are never touched. Retrying the same requests in the same way again is the same batch.
 * @throws LonghaulError `NOT_FINISHED`, `NOTHING_TO_RETRY`, `DOCUMENT_GONE`; NotFoundError.
 */
export async function retryBatch(
  deps: BatchDeps,
  sourceId: string,
  input: RetryInput = {},
  signal?: AbortSignal,
): Promise<Retried> {
  const { store } = deps;
  const success = await requireSuccess(store, sourceId, signal);
  const source = await readManifest(store, sourceId, signal);
  const chosen = await chooseRequests(store, source, success, input, signal);
  const documents = new Map(chosen.map(({ document, custom_id }) => [document.sha256, custom_id]));
  await keepDocuments(deps, documents, signal);
  const { manifest, items } = await buildRetry(store, source, chosen, input, signal);
  const { header } = manifest;
  // Before the manifest: whoever finds the retry finds it from its source too. Without a manifest it means nothing.
  const mark = canonicalJson({ retry: header.batch_id }) + '\n';
  await store.create(objectKeys.retry(sourceId, header.batch_id), mark, signal);
  const { created, header: kept } = await createBatchFrom(deps, draftOf(manifest, items), { signal });
  return { id: kept.batch_id, created, header: kept };
}

async function chooseRequests(
  store: ObjectStore,
  source: IndexedManifest,
  success: Success,
  { only = ['failed', 'expired'], items }: RetryInput,
  signal?: AbortSignal,
): Promise<ManifestRequest[]> {
  const id = source.header.batch_id;
  const unanswered = await readUnanswered(store, source, success, signal);
  const chosen = source.requests.filter(({ ordinal, item }) => {
    const status = unanswered.get(ordinal);
    return status !== undefined && only.includes(status) && (items === undefined || items.has(item));
  });
  if (chosen.length > 0) return chosen;
  const { total: _total, ...ended } = success.counts;
  const counts = Object.entries(ended).map(([status, count]) => `${count} ${status}`);
  throw new LonghaulError(
    'NOTHING_TO_RETRY',
    `batch ${id} has no ${only.join(' or ')} requests${items === undefined ? '' : ' in these work items'} (${counts.join(', ')})`,
  );
}

/** Requests and items in the source's order, numbered anew. */
async function buildRetry(
  store: ObjectStore,
  source: IndexedManifest,
  chosen: readonly ManifestRequest[],
  { ranks, windowSeconds, priority, isNew }: RetryInput,
  signal?: AbortSignal,
): Promise<{ manifest: Manifest; items: WorkItem[] }> {
  // A retry of parts has not all of them, so no second batch can follow from it.
  const { then: _then, then_of: _first, ...header } = source.header;
  const retry_of = header.batch_id;
  const itemOf = new Map([...new Set(chosen.map(({ item }) => item))].map((item, index) => [item, index]));
  const ordinalOf = new Map(chosen.map(({ ordinal }, index) => [ordinal, index]));
  const requests = chosen.map((request, ordinal) => ({
    ...request,
    ordinal,
    item: itemOf.get(request.item) ?? 0,
  }));
  const options = runOptions.parse({ ...header.options, ...(ranks === undefined ? {} : { ranks }) });
  const { digests } = header;
  const batch_id = batchId(isNew === true ? undefined : { retry_of, requests, options, digests });
  const created_at = unixNow();
  const before = header.expires_at === null ? null : header.expires_at - header.created_at;
  const window = windowSeconds ?? before;
  const expires_at = window === null ? null : created_at + window;
  const items = await mapConcurrently(
    [...itemOf],
    READERS,
    async ([item, index]): Promise<WorkItem> => {
      const key = objectKeys.item(retry_of, item);
      const old = workItem.parse(JSON.parse((await store.get(key, signal)).toString('utf8')));
      return {
        ...old,
        batch_id,
        index,
        options,
        expires_at,
        requests: old.requests.flatMap((request) => {
          const ordinal = ordinalOf.get(request.ordinal);
          return ordinal === undefined ? [] : [{ ...request, ordinal }];
        }),
      };
    },
    signal,
  );
  return {
    manifest: {
      header: {
        ...header,
        batch_id,
        created_at,
        expires_at,
        options,
        totals: {
          requests: requests.length,
          questions: requests.reduce((sum, { questions }) => sum + questions.length, 0),
          documents: new Set(requests.map(({ document }) => document.sha256)).size,
          items: items.length,
        },
        retry_of,
        ...(priority === undefined ? {} : { priority }),
      },
      requests,
    },
    items,
  };
}
