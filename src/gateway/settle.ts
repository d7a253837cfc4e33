import { mapConcurrently } from '../batch/concurrency.js';
import { gatewayKeys } from '../platform/keys.js';
import { ApiError, notFound } from './api-error.js';
import type { GatewayContext } from './context.js';
import { describeBatch, hasEnded } from './describe-batch.js';
import { batchRecord, listIds, readRecord, type BatchRecord } from './records.js';
import type { Batch } from './schemas.js';

const READERS = 16;

/** @throws ApiError 404 */
export async function findRecord({ store }: GatewayContext, owner: string, id: string): Promise<BatchRecord> {
  const record = await readRecord(store, gatewayKeys.batch(owner, id), batchRecord);
  if (record === undefined) throw notFound('batch', id);
  return record;
}

export async function getBatch(context: GatewayContext, owner: string, id: string): Promise<Batch> {
  return describeBatch(context, owner, await findRecord(context, owner, id));
}

/** Batches by their ids; without those that were removed meanwhile. */
export async function describeAll(context: GatewayContext, owner: string, ids: string[]): Promise<Batch[]> {
  const found = await mapConcurrently(ids, READERS, (id) =>
    getBatch(context, owner, id).catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }),
  );
  return found.filter((batch) => batch !== undefined);
}

/** Gives the batches that have ended their files, and returns how many have not. */
export async function settleBatches(context: GatewayContext, owner: string): Promise<number> {
  const { store } = context;
  const ended = new Set<string>();
  for await (const id of listIds(store, gatewayKeys.failures(owner))) ended.add(id);
  for await (const id of listIds(store, gatewayKeys.files(owner)))
    if (id.endsWith('-output')) ended.add(id.replace(/^file-(.*)-output$/, 'batch_$1'));
  const open: string[] = [];
  for await (const id of listIds(store, gatewayKeys.batches(owner))) if (!ended.has(id)) open.push(id);
  return (await describeAll(context, owner, open)).filter((batch) => !hasEnded(batch)).length;
}
