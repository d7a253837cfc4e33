/** A batch as OpenAI would show it, from what the gateway keeps of it and what longhaul says. */
import { readCancel, unixNow } from '../batch/flags.js';
import { getStatus } from '../batch/status.js';
import { readSuccess } from '../batch/success.js';
import type { Success } from '../contracts/outcome.js';
import type { BatchStatus } from '../contracts/status.js';
import { ifFound } from '../platform/errors.js';
import { gatewayKeys, objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { notFound } from './api-error.js';
import type { GatewayContext } from './context.js';
import {
  createRecord,
  failureRecord,
  outputFileId,
  readRecord,
  type BatchRecord,
  type FileRecord,
} from './records.js';
import type { Batch } from './schemas.js';

type Deps = Pick<GatewayContext, 'store' | 'redis'>;

export const hasEnded = ({ status }: Pick<Batch, 'status'>): boolean =>
  ['failed', 'completed', 'expired', 'cancelled'].includes(status);

/** @throws ApiError 404 for a batch that was removed. */
export async function describeBatch(deps: Deps, owner: string, record: BatchRecord): Promise<Batch> {
  const { store } = deps;
  const { id } = record;
  const status = await ifFound(getStatus(deps, id));
  if (status !== undefined) return describeCreated(store, owner, record, status);

  const failure = await readRecord(store, gatewayKeys.failure(owner, id), failureRecord);
  if (failure !== undefined) {
    const { failed_at, errors } = failure;
    return { ...blank(record), status: 'failed', failed_at, errors: { object: 'list', data: errors } };
  }
  if (await store.exists(gatewayKeys.pending(owner, id))) {
    const since = (await readCancel(store, id)) ?? null;
    return { ...blank(record), status: since === null ? 'validating' : 'cancelling', cancelling_at: since };
  }
  // No longer pending: it was created since we asked first, or it has been removed.
  const late = await ifFound(getStatus(deps, id));
  if (late === undefined) throw notFound('batch', id);
  return describeCreated(store, owner, record, late);
}

function blank(record: BatchRecord): Batch {
  const { id, endpoint, input_file_id, completion_window, created_at, expires_at, metadata } = record;
  return {
    id,
    object: 'batch',
    endpoint,
    errors: null,
    input_file_id,
    completion_window,
    status: 'validating',
    output_file_id: null,
    error_file_id: null,
    created_at,
    in_progress_at: null,
    expires_at,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    metadata,
  };
}

async function describeCreated(
  store: ObjectStore,
  owner: string,
  record: BatchRecord,
  { status, created_at, completed_at, cancel_requested_at, request_counts }: BatchStatus,
): Promise<Batch> {
  const { total, answered, failed } = request_counts;
  const batch: Batch = {
    ...blank(record),
    status,
    // longhaul's own batch is created when its file has been found good.
    in_progress_at: status === 'validating' ? null : created_at,
    cancelling_at: cancel_requested_at,
    request_counts: { total, completed: answered, failed },
  };
  if (status !== 'finalizing' && completed_at === null) return batch;
  // The finaliser begins by writing it.
  const output = await store.modifiedAt(objectKeys.output(record.id));
  batch.finalizing_at = output === undefined ? null : Math.floor(output.getTime() / 1000);
  if (completed_at === null) return batch;
  const success = await readSuccess(store, record.id);
  if (success === undefined) throw notFound('batch', record.id);
  const { document_tokens, query_tokens, answer_tokens } = success.usage;
  const input_tokens = document_tokens + query_tokens;
  return {
    ...batch,
    ...(await createFiles(store, owner, record, success, completed_at)),
    completed_at: status === 'completed' ? completed_at : null,
    expired_at: status === 'expired' ? completed_at : null,
    cancelled_at: status === 'cancelled' ? completed_at : null,
    usage: {
      input_tokens,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: answer_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: input_tokens + answer_tokens,
    },
  };
}

/** Both files are always there, also empty: a client need not guess. Made by whoever sees first that the batch has ended. */
async function createFiles(
  store: ObjectStore,
  owner: string,
  { id, output_expires_after }: BatchRecord,
  { files }: Success,
  created_at: number,
): Promise<Pick<Batch, 'output_file_id' | 'error_file_id'>> {
  const expires_at = output_expires_after === null ? null : created_at + output_expires_after;
  // The output's record last: it says that both are there.
  for (const which of ['error', 'output'] as const) {
    const { key, bytes, sha256 } = files[which];
    const record: FileRecord = {
      format: 'longhaul-gateway-file/1',
      id: outputFileId(id, which),
      bytes,
      sha256,
      created_at,
      expires_at,
      filename: `${id}_${which}.jsonl`,
      purpose: 'batch_output',
      content: key,
      deleted: false,
    };
    await createRecord(store, gatewayKeys.file(owner, record.id), record);
  }
  return { output_file_id: outputFileId(id, 'output'), error_file_id: outputFileId(id, 'error') };
}

export const isOverdue = ({ expires_at }: BatchRecord): boolean => unixNow() >= expires_at;
