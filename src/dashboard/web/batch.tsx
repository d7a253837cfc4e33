import { useEffect } from 'preact/hooks';
import type { BatchDetail, BatchRow, DeadItem, DocumentPage } from '../api.js';
import { post, useGet } from './client.js';
import { confirm } from './confirm.js';
import { count, dateTime, duration, pace, shortId } from './format.js';
import { Filters, Pager, useListing } from './listing.js';
import { useLive, useNow, watchBatches } from './live.js';
import { Badge, Copy, CountsBar, type Fact, FactsList, Panel, Problem } from './parts.js';
import { batchPath, documentPath, Link } from './router.js';

const LIMIT = 50;
const REFRESH_MS = 3_000;
const states = ['answered', 'failed', 'cancelled', 'expired', 'waiting', 'running', 'given back'];

function Actions({ row, dead, reload }: { row: BatchRow; dead: DeadItem[]; reload: () => void }) {
  const { counts, completed_at, status, input } = row;
  const path = `/api${batchPath(row.id)}`;
  const unanswered = counts.failed + counts.expired + counts.cancelled;
  const cancel = () => {
    confirm({
      title: 'Cancel this batch?',
      text: `${count(counts.pending)} of ${count(counts.total)} requests of ${input} have not ended and will get no answer. The ${count(counts.answered)} answers made so far stay. This cannot be undone; a retry can take the requests up again.`,
      verb: 'Cancel the batch',
      act: () => post(`${path}/cancel`),
      after: reload,
    });
  };
  const retry = () => {
    confirm({
      title: 'Retry what has no answer?',
      text: `A new batch takes the ${count(unanswered)} requests of ${input} without an answer (${count(counts.failed)} failed, ${count(counts.expired)} expired, ${count(counts.cancelled)} cancelled). This batch stays as it is.`,
      verb: 'Make the retry',
      act: () => post(`${path}/retry`),
      after: reload,
    });
  };
  const redrive = () => {
    confirm({
      title: `Redrive ${dead.length === 1 ? 'the dead item' : `${dead.length} dead items`}?`,
      text: 'Each of them ended three cohorts. A new batch tries their requests again; cohorts may end over them again.',
      verb: 'Redrive',
      act: () => post(`${path}/redrive`),
      after: reload,
    });
  };
  const canCancel = completed_at === null && status !== 'cancelling' && counts.pending > 0;
  return (
    <div class="actions">
      {canCancel ? (
        <button type="button" onClick={cancel}>
          Cancel
        </button>
      ) : null}
      {completed_at !== null && unanswered > 0 ? (
        <button type="button" onClick={retry}>
          Retry {count(unanswered)}
        </button>
      ) : null}
      {completed_at !== null && dead.length > 0 ? (
        <button type="button" onClick={redrive}>
          Redrive {dead.length} dead
        </button>
      ) : null}
    </div>
  );
}

/** What the outcomes so far took. */
function totalsOf({ usage, work }: BatchDetail): [string, string][] {
  if (usage === null || work === null || work.documents === 0) return [];
  const { gpu, cpu } = work.rank_seconds;
  return [
    ['Document tokens', count(work.document_tokens)],
    ['Question, answer tokens', `${count(usage.query_tokens)}, ${count(usage.answer_tokens)}`],
    ...(gpu > 0 ? ([['GPU seconds', count(Math.round(gpu))]] as [string, string][]) : []),
    ...(cpu > 0 ? ([['CPU rank seconds', count(Math.round(cpu))]] as [string, string][]) : []),
  ];
}

function Facts({ detail, row }: { detail: BatchDetail; row: BatchRow }) {
  const now = useNow() / 1000;
  const { options, totals, priority, retry_of } = detail.header;
  const { counts, rate, eta, completed_at, created_at, expires_at } = row;
  const facts: Fact[] = [
    ['Requests', `${count(counts.total)} on ${count(totals.documents)} documents`],
    ['Answered', count(counts.answered)],
    ['Failed', count(counts.failed)],
    ['Cancelled, expired', `${count(counts.cancelled)}, ${count(counts.expired)}`],
    ['Rate', rate === null ? 'not known yet' : pace(rate)],
    completed_at === null
      ? ['Left', eta === null ? 'not known yet' : duration(eta)]
      : ['Took', duration(completed_at - created_at)],
    ['Created', dateTime(created_at * 1000)],
    ...(completed_at === null ? [] : ([['Finished', dateTime(completed_at * 1000)]] as [string, string][])),
    ...(expires_at === null || completed_at !== null
      ? []
      : ([['Expires', expires_at > now ? `in ${duration(expires_at - now)}` : 'now']] as [string, string][])),
    ...totalsOf(detail),
    [
      'Method',
      `${options.method}${options.select === null ? '' : `, ${options.select}`}, ${options.ranks} ranks`,
    ],
    ...(priority === undefined ? [] : ([['Priority', String(priority)]] as [string, string][])),
  ];
  const batchLink = (id: string) => <Link to={batchPath(id)}>{shortId(id)}</Link>;
  const retries: Fact[] = detail.retries.map(({ id, requests }) => [
    'Retried by',
    <>
      {batchLink(id)}, {count(requests)} requests
    </>,
  ]);
  const link = (name: string, id: string | null): Fact[] => (id === null ? [] : [[name, batchLink(id)]]);
  const others = [
    ...link('Retry of', retry_of),
    ...link('First batch', detail.then_of),
    ...link('Second batch', detail.then),
  ];
  return <FactsList facts={[...facts, ...others, ...retries]} />;
}

function Documents({ id, live }: { id: string; live: boolean }) {
  const listing = useListing(LIMIT);
  const path = `/api${batchPath(id)}/documents?${listing.asked}`;
  const { value, error } = useGet<DocumentPage>(path, live ? REFRESH_MS : undefined);
  const filters = <Filters listing={listing} label="Search by custom_id" states={states} />;
  return (
    <Panel title="Documents" id="documents" aside={filters}>
      {error === undefined ? null : <Problem error={error} />}
      {value === undefined ? (
        <p class="empty">Loading</p>
      ) : value.rows.length === 0 ? (
        <p class="empty">No document is like this.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Document</th>
              <th scope="col">State</th>
              <th scope="col" class="number">
                Tokens
              </th>
              <th scope="col" class="number narrow">
                Requests
              </th>
              <th scope="col" class="narrow">
                sha256
              </th>
            </tr>
          </thead>
          <tbody>
            {value.rows.map((row) => (
              <tr key={row.item}>
                <td class="name">
                  <Link to={documentPath(id, row.item)}>{row.custom_id}</Link>
                  <span class="sub">document {row.item}</span>
                </td>
                <td>
                  <Badge state={row.state} />
                </td>
                <td class="number">{count(row.tokens)}</td>
                <td class="number narrow">{count(row.requests)}</td>
                <td class="narrow code">{row.sha256.slice(0, 12)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {value === undefined ? null : <Pager {...value} limit={LIMIT} what="documents" />}
    </Panel>
  );
}

function Running({ detail }: { detail: BatchDetail }) {
  if (detail.active.length + detail.given_back.length === 0) return null;
  return (
    <Panel title="In hand" id="in-hand">
      <ul class="plain-list">
        {detail.active.map(({ item, phase, done, total, epoch, document_tokens }) => (
          <li key={item}>
            <Link to={documentPath(detail.row.id, item)}>Document {item}</Link>: {phase}
            {total > 0 ? ` ${done}/${total}` : ''}, {count(document_tokens)} tokens, epoch {epoch}
          </li>
        ))}
        {detail.given_back.map((back) => (
          <li key={`back ${back.item}`}>
            <Link to={documentPath(detail.row.id, back.item)}>Document {back.item}</Link> was given back:{' '}
            {back.infrastructure_faults} faults{back.last_fault === null ? '' : `, last ${back.last_fault}`};{' '}
            {back.engine_deaths} cohorts ended
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function Batch({ id }: { id: string }) {
  useEffect(() => {
    watchBatches([id]);
    return () => {
      watchBatches([]);
    };
  }, [id]);
  const live = useLive(`batch:${id}`);
  const finished = (live?.completed_at ?? null) !== null;
  const {
    value: detail,
    error,
    reload,
  } = useGet<BatchDetail>(`/api${batchPath(id)}`, finished ? 10_000 : REFRESH_MS);
  // What the answer says of files, retries and dead items changes with the state.
  useEffect(reload, [live?.status]);
  if (detail === undefined) {
    return error === undefined ? <p class="empty">Loading</p> : <Problem error={error} />;
  }
  const row = live ?? detail.row;
  return (
    <>
      <header class="page-head">
        <div>
          <p class="crumbs">
            <Link to="/batches">Batches</Link>
          </p>
          <h1>{row.input === '' ? shortId(id) : row.input}</h1>
          <p class="code">
            {id} <Copy text={id} what="the batch's id" />
          </p>
        </div>
        <div class="page-state">
          <Badge state={row.status} />
          <Actions row={row} dead={detail.dead} reload={reload} />
        </div>
      </header>
      <section class="panel" aria-label="progress">
        <div class="panel-body">
          <CountsBar counts={row.counts} />
          <Facts detail={detail} row={row} />
        </div>
      </section>
      <Running detail={detail} />
      <Documents id={id} live={row.completed_at === null} />
      <Panel title="In S3" id="files">
        <Files files={detail.files} />
        <p class="panel-foot">
          Download them with <code>longhaul results {id}</code>
        </p>
      </Panel>
    </>
  );
}

export function Files({ files }: { files: { name: string; url: string }[] }) {
  return (
    <ul class="files">
      {files.map(({ name, url }) => (
        <li key={name}>
          <span>{name}</span> <span class="code">{url}</span>{' '}
          <Copy text={url} what={`the place of ${name}`} />
        </li>
      ))}
    </ul>
  );
}
