import { useEffect } from 'preact/hooks';
import type { BatchPage } from '../api.js';
import { BatchTable } from './batch-table.js';
import { useGet } from './client.js';
import { watchBatches } from './live.js';
import { Pager, Panel, Problem } from './parts.js';
import { setQuery, useLocation } from './router.js';
import { Search, Select } from './filters.js';

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
  const { query } = useLocation();
  const offset = Number(query.get('offset') ?? 0);
  const state = query.get('state') ?? '';
  const search = query.get('search') ?? '';
  const asked = new URLSearchParams({ offset: String(offset), limit: String(LIMIT) });
  if (state !== '') asked.set('state', state);
  if (search !== '') asked.set('search', search);
  const { value, error } = useGet<BatchPage>(`/api/batches?${asked.toString()}`, REFRESH_MS);
  const ids = value?.rows.map(({ id }) => id).join(',') ?? '';
  useEffect(() => {
    watchBatches(ids === '' ? [] : ids.split(','));
    return () => {
      watchBatches([]);
    };
  }, [ids]);
  const filters = (
    <div class="filters">
      <Search
        value={search}
        label="Search by name or id"
        onChange={(text) => {
          setQuery({ search: text, offset: '' });
        }}
      />
      <Select
        label="State"
        value={state}
        options={states}
        onChange={(next) => {
          setQuery({ state: next, offset: '' });
        }}
      />
    </div>
  );
  return (
    <>
      <h1 class="visually-hidden">Batches</h1>
      <Panel title="Batches" id="batches" aside={filters}>
        {error === undefined ? null : <Problem error={error} />}
        <BatchTable rows={value?.rows} empty="No batch is like this." />
        {value === undefined ? null : (
          <Pager
            {...value}
            limit={LIMIT}
            what="batches"
            go={(next) => {
              setQuery({ offset: next === 0 ? '' : String(next) });
            }}
          />
        )}
        <p class="panel-foot">
          These are the batches that Redis knows. Older ones are in S3: <code>longhaul batch list --all</code>
          .
        </p>
      </Panel>
    </>
  );
}
