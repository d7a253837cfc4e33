import type { DeadItem } from '../api.js';
import { useGet } from './client.js';
import { DeadHistory, redriveItem } from './document.js';
import { count, shortId } from './format.js';
import { Panel, Problem } from './parts.js';
import { documentPath, Link } from './router.js';

const REFRESH_MS = 10_000;

export function Dead() {
  const { value, error, reload } = useGet<DeadItem[]>('/api/dead', REFRESH_MS);
  return (
    <>
      <h1 class="visually-hidden">Dead items</h1>
      <Panel
        title="Dead items"
        id="dead"
        aside={<span class="aside">{value === undefined ? '' : count(value.length)}</span>}
      >
        {error === undefined ? null : <Problem error={error} />}
        {value === undefined ? <p class="empty">Loading</p> : null}
        {value?.length === 0 ? <p class="empty">No work item has ended three cohorts.</p> : null}
        {value?.map((dead) => (
          <article
            class="answer"
            key={`${dead.batch_id} ${dead.item}`}
            aria-label={`document ${dead.item} of ${dead.batch_id}`}
          >
            <header>
              <h3>
                <Link to={documentPath(dead.batch_id, dead.item)}>
                  document {dead.item} of {shortId(dead.batch_id)}
                </Link>
              </h3>
              <span class="sub">
                {count(dead.document.tokens)} tokens, {dead.custom_ids.length} requests
              </span>
              <button
                type="button"
                onClick={() => {
                  redriveItem(dead, reload);
                }}
              >
                Redrive
              </button>
            </header>
            <DeadHistory dead={dead} />
          </article>
        ))}
        <p class="panel-foot">
          Records stay until <code>longhaul dead drop</code>; a redrive is a new batch.
        </p>
      </Panel>
    </>
  );
}
