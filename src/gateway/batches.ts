import type { Queue } from 'bullmq';
import { cancelBatch as cancelCreated } from '../batch/cancel.js';
import { canonicalJson } from '../batch/canonical.js';
import { unixNow, wishCancel } from '../batch/flags.js';
import { windowSeconds } from '../batch/window.js';
import { LonghaulError } from '../platform/errors.js';
import { gatewayKeys, objectKeys } from '../platform/keys.js';
import { ApiError } from './api-error.js';
import type { ApiKey } from './api-keys.js';
import { claimId } from './claims.js';
import type { GatewayContext, ValidateJob } from './context.js';
import { describeBatch, hasEnded } from './describe-batch.js';
import { describeAll, findRecord, settleBatches } from './settle.js';
import { findFile } from './files.js';
import {
  batchRecord,
  createRecord,
  drawId,
  listIds,
  readRecord,
  sha256,
  type BatchRecord,
} from './records.js';
import { pageOf, type Batch, type CreateBatchBody, type ListBatchesQuery, type Page } from './schemas.js';

/** Of one owner after each other in this process, so that its limit is looked at by one at a time. */
const creating = new Map<string, Promise<unknown>>();

export async function createBatch(
  context: GatewayContext,
  key: ApiKey,
  body: CreateBatchBody,
  idempotencyKey?: string,
): Promise<Batch> {
  const { owner } = key;
  const before = creating.get(owner) ?? Promise.resolve();
  const made = before.catch(() => undefined).then(() => createNow(context, key, body, idempotencyKey));
  creating.set(owner, made);
  try {
    return await made;
  } finally {
    if (creating.get(owner) === made) creating.delete(owner);
  }
}

async function createNow(
  context: GatewayContext,
  { owner, limits }: ApiKey,
  body: CreateBatchBody,
  idempotencyKey?: string,
): Promise<Batch> {
  const { store } = context;
  const known = async (id: string) => readRecord(store, gatewayKeys.batch(owner, id), batchRecord);
  let id = drawId('batch_');
  if (idempotencyKey !== undefined) {
    const request = sha256(canonicalJson(body));
    id = await claimId(store, owner, 'batch', idempotencyKey, { id, request });
    const first = await known(id);
    if (first !== undefined) return describeBatch(context, owner, first);
  }
  await findFile(context, owner, body.input_file_id);
  const open = await settleBatches(context, owner);
  if (open >= limits.batches) {
    throw new ApiError(
      429,
      'batch_limit_exceeded',
      `${owner} has ${open} batches that have not ended, and ${limits.batches} are the most; wait for one, or cancel one`,
      { headers: { 'x-should-retry': 'false' } },
    );
  }
  const created_at = unixNow();
  const record: BatchRecord = {
    format: 'longhaul-gateway-batch/1',
    id,
    input_file_id: body.input_file_id,
    endpoint: body.endpoint,
    completion_window: body.completion_window,
    metadata: body.metadata ?? null,
    created_at,
    expires_at: created_at + (windowSeconds(body.completion_window) ?? 0),
    output_expires_after: body.output_expires_after?.seconds ?? null,
  };
  // First the sign that it is to be looked at: whoever dies from here on, the batch is not forgotten.
  await createRecord(store, gatewayKeys.pending(owner, id), {});
  const created = await createRecord(store, gatewayKeys.batch(owner, id), record);
  await enqueueValidation(context.validation, { owner, id });
  return describeBatch(context, owner, created === 'created' ? record : ((await known(id)) ?? record));
}

/** Again and again is once. */
export async function enqueueValidation(queue: Queue<ValidateJob>, job: ValidateJob): Promise<void> {
  await queue.add('validate', job, { jobId: job.id, removeOnComplete: true, removeOnFail: true });
}

export async function listBatches(
  context: GatewayContext,
  owner: string,
  { limit, after }: ListBatchesQuery,
): Promise<Page<Batch>> {
  const ids: string[] = [];
  for await (const id of listIds(context.store, gatewayKeys.batches(owner), after)) {
    ids.push(id);
    if (ids.length > limit) break;
  }
  return pageOf(await describeAll(context, owner, ids.slice(0, limit)), ids.length > limit);
}

/** What has no answer yet ends as cancelled. @throws ApiError 409 for a batch that has ended. */
export async function cancelBatch(context: GatewayContext, owner: string, id: string): Promise<Batch> {
  const record = await findRecord(context, owner, id);
  const now = await describeBatch(context, owner, record);
  if (hasEnded(now)) throw tooLate(now);
  const exists = () => context.store.exists(objectKeys.manifest(id));
  // A batch still being made finds the wish when it is enqueued; one that was made meanwhile is asked again.
  if (!(await exists())) await wishCancel(context, id);
  if (await exists()) {
    try {
      await cancelCreated(context, id);
    } catch (error) {
      if (!(error instanceof LonghaulError && error.code === 'BATCH_FINISHED')) throw error;
      throw tooLate(await describeBatch(context, owner, record));
    }
  }
  return describeBatch(context, owner, record);
}

const tooLate = ({ id, status }: Batch): ApiError =>
  new ApiError(409, 'batch_ended', `the batch ${id} is ${status}, so it cannot be cancelled`);
