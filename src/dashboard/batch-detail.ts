import { listDead } from '../batch/dead.js';
import { readHeader } from '../batch/header.js';
import { findRetries } from '../batch/retries.js';
import { getStatus } from '../batch/status.js';
import type { BatchStatus } from '../contracts/status.js';
import { objectKeys } from '../platform/keys.js';
import type { BatchDetail, BatchRow } from './api.js';
import type { DashboardContext } from './context.js';

/** Dead items that are told with their batch; `longhaul dead list` has all. */
const MAX_DEAD = 100;

/** @throws NotFoundError */
export async function batchDetail(context: DashboardContext, id: string): Promise<BatchDetail> {
  const { store, index } = context;
  const status = await getStatus(context, id);
  await index.refresh(1_000);
  const [header, retries, dead] = await Promise.all([
    readHeader(store, id),
    findRetries(store, id),
    listDead(context, { batch: id, limit: MAX_DEAD }),
  ]);
  const { options, totals, retry_of, priority } = header;
  const places = [
    { name: 'manifest', key: objectKeys.manifest(id) },
    ...(status.completed_at === null
      ? []
      : [
          { name: 'output', key: objectKeys.output(id) },
          { name: 'errors', key: objectKeys.error(id) },
          { name: 'success', key: objectKeys.success(id) },
        ]),
  ];
  return {
    row: index.get(id) ?? rowOf(status),
    header: { options, totals, retry_of, priority },
    cancel_requested_at: status.cancel_requested_at,
    active: status.active,
    given_back: status.given_back,
    usage: status.usage,
    work: status.work,
    then: status.then,
    then_of: status.then_of,
    retries: retries.map(({ batch_id, created_at, totals: { requests } }) => ({
      id: batch_id,
      created_at,
      requests,
    })),
    dead,
    files: places.map(({ name, key }) => ({ name, url: store.url(key) })),
  };
}

/** Of a batch that Redis has dropped. */
function rowOf(status: BatchStatus): BatchRow {
  const { id, input, created_at, completed_at, expires_at, request_counts: counts } = status;
  const row = { id, input, status: status.status, created_at, completed_at, expires_at, counts };
  return { ...row, rate: null, eta: null };
}
