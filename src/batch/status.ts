import type { RequestCounts, BatchStatus } from '../contracts/status.js';
import { itemJob, itemProgress } from '../contracts/work-item.js';
import { ifFound } from '../platform/errors.js';
import { redisKeys } from '../platform/keys.js';
import { mapConcurrently } from './concurrency.js';
import { readCancel } from './flags.js';
import { givenBack, type GivenBack } from './given-back.js';
import { readHeader } from './header.js';
import { knownLanes } from './lanes.js';
import { checkBatchId, readManifest } from './manifest.js';
import { withQueues, type BatchDeps, type Queues } from './queues.js';
import { readOutcomes } from './read-outcomes.js';
import { finishedAt, readSuccess } from './success.js';
import { listOutcomes, READERS } from './sync.js';
import { readThen } from './then.js';
import { addTotals, describeTotals, noTotals, TOTALS, totalsOf, type Totals } from './totals.js';

export type ActiveItem = BatchStatus['active'][number];

/**
 * The state of one batch, from Redis; from S3 when Redis does not know it.
 * @throws NotFoundError when neither knows it.
 */
export async function getStatus(deps: BatchDeps, id: string, signal?: AbortSignal): Promise<BatchStatus> {
  checkBatchId(id);
  const fields = await deps.redis.hgetall(redisKeys.batch(id));
  if (fields['total'] === undefined) return statusFromStore(deps, id, signal);
  if (fields['completed_at'] !== undefined) return statusFromFields(id, fields);
  const active = (await withQueues(deps.redis, activeItems)).get(id) ?? [];
  const back = await givenBack(
    deps.redis,
    id,
    active.map(({ item }) => item),
  );
  return statusFromFields(id, fields, active, back);
}

/** Nothing of it will change any more. */
export function hasEnded({ status }: Pick<BatchStatus, 'status'>): boolean {
  return status === 'completed' || status === 'cancelled' || status === 'expired';
}

/** Of several batches at once, in their order, without what was given back; one that is gone is left out. */
export async function getStatuses(
  deps: BatchDeps,
  ids: readonly string[],
  signal?: AbortSignal,
): Promise<BatchStatus[]> {
  const active = await withQueues(deps.redis, activeItems);
  const statuses = await mapConcurrently(
    ids,
    READERS,
    async (id) => {
      const fields = await deps.redis.hgetall(redisKeys.batch(id));
      if (fields['total'] !== undefined) return statusFromFields(id, fields, active.get(id) ?? []);
      return ifFound(statusFromStore(deps, id, signal));
    },
    signal,
  );
  return statuses.filter((status) => status !== undefined);
}

/** What cohorts run right now, by batch: at most one item per cohort. */
async function activeItems(queues: Queues): Promise<Map<string, ActiveItem[]>> {
  const byBatch = new Map<string, ActiveItem[]>();
  const lanes = await knownLanes(queues.redis);
  const active = await Promise.all(lanes.map((lane) => queues.lane(lane).getActive(0, -1)));
  for (const job of active.flat()) {
    const data = itemJob.safeParse(job.data);
    if (!data.success) continue;
    const items = byBatch.get(data.data.batch_id) ?? [];
    items.push(activeItem(data.data.item, job.attemptsStarted, job.progress));
    byBatch.set(data.data.batch_id, items);
  }
  return byBatch;
}

/** Progress is not fenced in BullMQ: a value of a lower epoch comes from a cohort that lost the item. */
export function activeItem(item: number, epoch: number, progress: unknown): ActiveItem {
  const parsed = itemProgress.safeParse(progress);
  if (!parsed.success || parsed.data.epoch < epoch) {
    return { item, epoch, phase: 'prepare', done: 0, total: 0, document_tokens: 0 };
  }
  return { item, ...parsed.data };
}

export function statusFromFields(
  id: string,
  fields: Record<string, string>,
  active: ActiveItem[] = [],
  given_back: GivenBack[] = [],
): BatchStatus {
  const number = (name: string) => Number(fields[name] ?? 0);
  const optional = (name: string) => (fields[name] === undefined ? null : Number(fields[name]));
  const ended = {
    answered: number('answered'),
    failed: number('failed'),
    cancelled: number('cancelled'),
    expired: number('expired'),
  };
  const total = number('total');
  const pending = total - ended.answered - ended.failed - ended.cancelled - ended.expired;
  const request_counts = { total, ...ended, pending };
  const completed_at = optional('completed_at');
  const totals = Object.fromEntries(TOTALS.map((name) => [name, number(name)])) as Totals;
  const items = number('items');
  const isKept = completed_at === null || fields['run_documents'] !== undefined;
  const cancel_requested_at = optional('cancel_requested_at');
  return {
    id,
    status: stateOf(request_counts, {
      enqueued: fields['enqueued_at'] !== undefined,
      finished: completed_at !== null,
      cancelling: cancel_requested_at !== null,
    }),
    created_at: number('created_at'),
    expires_at: optional('expires_at'),
    completed_at,
    cancel_requested_at,
    request_counts,
    documents: { total: items, ended: completed_at === null ? totals.ended_documents : items },
    ...(isKept ? describeTotals(totals) : { usage: null, work: null }),
    input: fields['input'] ?? '',
    then: fields['then'] ?? null,
    then_of: fields['then_of'] ?? null,
    active,
    given_back,
  };
}

/** A finished batch is named after what cut it short, if anything did; failed requests are results. */
function stateOf(
  counts: RequestCounts,
  { enqueued, finished, cancelling }: { enqueued: boolean; finished: boolean; cancelling: boolean },
): BatchStatus['status'] {
  if (finished) return counts.cancelled > 0 ? 'cancelled' : counts.expired > 0 ? 'expired' : 'completed';
  if (counts.pending === 0) return 'finalizing';
  if (cancelling) return 'cancelling';
  return enqueued ? 'in_progress' : 'validating';
}

async function statusFromStore(deps: BatchDeps, id: string, signal?: AbortSignal): Promise<BatchStatus> {
  const [header, success, cancelled] = await Promise.all([
    readHeader(deps.store, id, signal),
    readSuccess(deps.store, id, signal),
    readCancel(deps.store, id, signal),
  ]);
  const documents = header.totals.items;
  const base = {
    id,
    created_at: header.created_at,
    expires_at: header.expires_at,
    cancel_requested_at: cancelled ?? null,
    input: header.input,
    then: header.then === undefined ? null : ((await readThen(deps.store, id, signal))?.batch_id ?? null),
    then_of: header.then_of ?? null,
    active: [],
    given_back: [],
  };
  if (success !== undefined) {
    const request_counts = { ...success.counts, pending: 0 };
    const status = stateOf(request_counts, { enqueued: true, finished: true, cancelling: false });
    const completed_at = await finishedAt(deps.store, id, signal);
    const { usage, work } = success;
    const totals = work === undefined ? { usage: null, work: null } : { usage, work };
    return {
      ...base,
      status,
      completed_at,
      request_counts,
      documents: { total: documents, ended: documents },
      ...totals,
    };
  }
  // Redis was emptied and the reconciler has not been here yet.
  const manifest = await readManifest(deps.store, id, signal);
  const done = [...(await listOutcomes(deps, manifest, signal))].sort((a, b) => a - b);
  const total = header.totals.requests;
  const counts = { total, answered: 0, failed: 0, cancelled: 0, expired: 0, pending: total - done.length };
  const totals = noTotals();
  for await (const outcome of readOutcomes(deps.store, manifest, done, signal)) {
    counts[outcome.status] += 1;
    addTotals(totals, totalsOf(manifest, outcome));
  }
  const status = stateOf(counts, { enqueued: true, finished: false, cancelling: cancelled !== undefined });
  return {
    ...base,
    status,
    completed_at: null,
    request_counts: counts,
    documents: { total: documents, ended: totals.ended_documents },
    ...describeTotals(totals),
  };
}
