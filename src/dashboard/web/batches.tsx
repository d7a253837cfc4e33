import { useEffect } from 'preact/hooks';
import type { BatchPage } from '../api.js';
import { BatchTable } from './batch-table.js';
import { useGet } from './client.js';
import { Filters, Pager, useListing } from './listing.js';
import { watchBatches } from './live.js';
import { Panel, Problem } from './parts.js';

const LIMIT = 50;
const REFRESH_MS = 5_000;
const states = [
  'unfinished',
  'validating',
  'in_progress',
  'finalizing',
  'cancelling',
  'completed',
  'cancelled',
  'expired',
];

export function Batches() {
  const listing = useListing(LIMIT);
  const { value, error } = useGet<BatchPage>(`/api/batches?${listing.asked}`, REFRESH_MS);
  const ids = value?.rows.map(({ id }) => id).join(',') ?? '';
  useEffect(() => {
    watchBatches(ids === '' ? [] : ids.split(','));
    return () => {
      watchBatches([]);
    };
  }, [ids]);
  const filters = <Filters listing={listing} label="Search by name or id" states={states} />;
  return (
    <>
      <h1 class="visually-hidden">Batches</h1>
      <Panel title="Batches" id="batches" aside={filters}>
        {error === undefined ? null : <Problem error={error} />}
        <BatchTable rows={value?.rows} empty="No batch is like this." />
        {value === undefined ? null : <Pager {...value} limit={LIMIT} what="batches" />}
        <p class="panel-foot">
          These are the batches that Redis knows. Older ones are in S3: <code>longhaul batch list --all</code>
          .
        </p>
      </Panel>
    </>
  );
}
