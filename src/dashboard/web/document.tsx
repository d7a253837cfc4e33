import { useEffect } from 'preact/hooks';
import type { DeadItem, DocumentDetail } from '../api.js';
import { Files } from './batch.js';
import { post, useGet } from './client.js';
import { confirm } from './confirm.js';
import { count, dateTime, duration, shortId } from './format.js';
import { Badge, type Fact, FactsList, Panel, Problem } from './parts.js';
import { batchPath, documentPath, Link } from './router.js';
import { RankBars, RanksNow, Steps } from './timeline.js';

const REFRESH_MS = 1_500;

type Request = DocumentDetail['requests'][number];

function Answer({ request }: { request: Request }) {
  const { outcome, questions, custom_id, url } = request;
  return (
    <article class="answer" aria-label={`request ${custom_id}`}>
      <header>
        <h3>{custom_id}</h3>
        <Badge state={outcome?.status ?? 'pending'} />
        {!outcome?.usage ? null : (
          <span class="sub">
            {count(outcome.usage.query_tokens)} query tokens, {count(outcome.usage.answer_tokens)} answer
            tokens
          </span>
        )}
      </header>
      {!outcome?.error ? null : (
        <p class="note bad">
          <b class="code">{outcome.error.code}</b> {outcome.error.message}
        </p>
      )}
      <dl class="questions">
        {questions.map((question, i) => {
          const answer = outcome?.answers[i];
          return (
            <div key={i}>
              <dt>{question}</dt>
              <dd>
                {answer === undefined ? (
                  <span class="sub">no answer{outcome === null ? ' yet' : ''}</span>
                ) : (
                  <>
                    <span class="answer-text">{answer.text === '' ? '(empty)' : answer.text}</span>{' '}
                    {answer.finish === 'length' ? (
                      <span class="sub">cut at {request.max_tokens} tokens</span>
                    ) : null}
                  </>
                )}
              </dd>
            </div>
          );
        })}
      </dl>
      <Files files={[{ name: outcome === null ? 'will be at' : 'in S3', url }]} />
    </article>
  );
}

export function DeadHistory({ dead }: { dead: DeadItem }) {
  return (
    <ol class="history">
      {dead.history.map((death) => (
        <li key={`${death.generation} ${death.epoch}`}>
          <span>{dateTime(death.at * 1000)}</span> cohort {death.cohort}, generation{' '}
          {death.generation.split('.')[0]}, epoch {death.epoch}
          {death.rank === null ? '' : `, rank ${death.rank}`}
          {death.phase === null ? '' : `, in ${death.phase}`}: <b class="code">{death.code}</b>{' '}
          {death.message}
        </li>
      ))}
    </ol>
  );
}

export function redriveItem(
  { batch_id, item }: Pick<DeadItem, 'batch_id' | 'item'>,
  after: () => void,
): void {
  confirm({
    title: 'Redrive this dead item?',
    text: 'It ended three cohorts. A new batch tries its requests again; cohorts may end over it again.',
    verb: 'Redrive',
    act: () => post(`/api${batchPath(batch_id)}/redrive`, { item }),
    after,
  });
}

function Execution({ detail }: { detail: DocumentDetail }) {
  const execution = detail.requests.find(({ outcome }) => outcome?.execution)?.outcome?.execution;
  if (!execution) return null;
  const tokens = detail.document.tokens;
  const facts: Fact[] = [
    ['Cohort', `${execution.cohort}, generation ${execution.generation}, epoch ${execution.epoch}`],
    ['Method', `${execution.method}${execution.select === null ? '' : `, ${execution.select}`}`],
    ['Ranks', `${execution.ranks} on ${execution.backend}`],
    ['Anchor, passing', `${execution.anchor ?? 'none'}, ${execution.passing}`],
    ['Blocks', execution.blocks.map(count).join(', ')],
    [
      'Prefill',
      `${duration(execution.prefill_seconds)}, ${count(Math.round(tokens / Math.max(0.001, execution.prefill_seconds)))} tokens/s`,
    ],
    ['Decode', duration(execution.decode_seconds)],
    ['Version', execution.version],
  ];
  return <FactsList facts={facts} />;
}

export function DocumentPage({ id, item }: { id: string; item: number }) {
  const path = `/api${documentPath(id, item)}`;
  const { value: detail, error, reload } = useGet<DocumentDetail>(path);
  const open = detail !== undefined && detail.requests.some(({ outcome }) => outcome === null);
  useEffect(() => {
    if (!open) return;
    const timer = setInterval(reload, REFRESH_MS);
    return () => {
      clearInterval(timer);
    };
  }, [open, reload]);
  if (detail === undefined)
    return error === undefined ? <p class="empty">Loading</p> : <Problem error={error} />;
  const { dead, timeline, given_back, document: source } = detail;
  return (
    <>
      <header class="page-head">
        <div>
          <p class="crumbs">
            <Link to="/batches">Batches</Link> /{' '}
            <Link to={batchPath(id)}>{detail.input === '' ? shortId(id) : detail.input}</Link>
          </p>
          <h1>
            Document {item} <span class="sub">of {count(detail.items)}</span>
          </h1>
          <p>
            {count(source.tokens)} tokens, {detail.requests.length} request
            {detail.requests.length === 1 ? '' : 's'}
          </p>
        </div>
        <div class="page-state">
          <Badge state={detail.state} />
          {dead === null ? null : (
            <div class="actions">
              <button
                type="button"
                onClick={() => {
                  redriveItem(dead, reload);
                }}
              >
                Redrive
              </button>
            </div>
          )}
        </div>
      </header>
      <Panel title="Timeline" id="timeline">
        <div class="panel-body">
          <Steps detail={detail} />
          {given_back === null ? null : (
            <p class="note warn">
              It was given back: {given_back.infrastructure_faults} faults
              {given_back.last_fault === null ? '' : `, last ${given_back.last_fault}`};{' '}
              {given_back.engine_deaths} cohorts ended.
            </p>
          )}
          {timeline === null ? <RanksNow batch={id} item={item} /> : <RankBars timeline={timeline} />}
          {dead === null ? null : <DeadHistory dead={dead} />}
        </div>
      </Panel>
      <Panel title="Answers" id="answers">
        {detail.requests.map((request) => (
          <Answer key={request.ordinal} request={request} />
        ))}
      </Panel>
      <Panel title="Run" id="run">
        <div class="panel-body">
          <Execution detail={detail} />
        </div>
        <Files files={[{ name: 'document', url: source.url }]} />
      </Panel>
    </>
  );
}
