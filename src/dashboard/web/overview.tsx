import { useState } from 'preact/hooks';
import type { Activity, ActivityPoint } from '../api.js';
import { BatchTable } from './batch-table.js';
import { Chart } from './chart.js';
import { useGet } from './client.js';
import { CohortsPanel } from './cohorts.js';
import { axisSeconds, count, duration, short } from './format.js';
import { useLive, useNow } from './live.js';
import { Panel } from './parts.js';
import { Link } from './router.js';

function Tile({
  label,
  value,
  detail,
  tone = '',
}: {
  label: string;
  value: string;
  detail: string;
  tone?: string;
}) {
  return (
    <div class={`tile ${tone}`}>
      <dt>{label}</dt>
      <dd>
        <b>{value}</b> <span>{detail}</span>
      </dd>
    </div>
  );
}

const OLD_SECONDS = 3600;

function Tiles() {
  const queue = useLive('queue');
  const rates = useLive('rates');
  const now = useNow();
  if (queue === undefined) return <dl class="tiles" aria-busy="true" />;
  const age = queue.oldest_queued_at === null ? null : (now - queue.oldest_queued_at) / 1000;
  const failed = rates?.causes.reduce((sum, cause) => sum + cause.count, 0) ?? 0;
  const [p50, p95] = [rates?.latency_p50 ?? null, rates?.latency_p95 ?? null];
  return (
    <dl class="tiles">
      <Tile
        label="Waiting"
        value={count(queue.waiting)}
        detail={age === null ? 'nothing waits' : `oldest ${duration(Math.max(0, age))}`}
        tone={age !== null && age > OLD_SECONDS ? 'warn' : ''}
      />
      <Tile
        label="Running"
        value={count(queue.active)}
        detail={queue.delayed === 0 ? 'none given back' : `${count(queue.delayed)} given back`}
      />
      <Tile label="Waiting for S3" value={count(queue.uncommitted)} detail="answers" />
      <Tile
        label="Tokens read"
        value={`${short(rates?.document_tokens_per_second ?? 0)}/s`}
        detail={`${short(rates?.documents_per_minute ?? 0)} documents/min`}
      />
      <Tile
        label="Queued to committed"
        value={p50 === null ? '–' : duration(p50)}
        detail={p95 === null ? 'nothing yet' : `95 % in ${duration(p95)}`}
      />
      <Tile label="Failed" value={count(failed)} detail="in 15 minutes" tone={failed > 0 ? 'bad' : ''} />
    </dl>
  );
}

const ranges = ['15m', '1h', '24h'] as const;
const REFRESH_MS = 10_000;

/** The newest points come live; the others from the last answer. */
function withNewest(activity: Activity, newest: ActivityPoint[]): ActivityPoint[] {
  const first = newest[0]?.at;
  const length = activity.points.length;
  if (first === undefined || activity.seconds !== 10) return activity.points;
  return [...activity.points.filter(({ at }) => at < first), ...newest].slice(-length);
}

function Charts() {
  const [range, setRange] = useState<(typeof ranges)[number]>('15m');
  const { value: activity } = useGet<Activity>(`/api/activity?range=${range}`, REFRESH_MS);
  const newest = useLive('points') ?? [];
  // The last stretch is not over yet.
  const points = activity === undefined ? [] : withNewest(activity, newest).slice(0, -1);
  const seconds = activity?.seconds ?? 10;
  const times = points.map(({ at }) => at);
  const per = (pick: (point: ActivityPoint) => number) => points.map((point) => pick(point) / seconds);
  return (
    <section class="panel charts" aria-label="over time">
      <div class="ranges" role="group" aria-label="time shown">
        {ranges.map((one) => (
          <button
            key={one}
            type="button"
            class="small"
            aria-pressed={one === range}
            onClick={() => {
              setRange(one);
            }}
          >
            {one}
          </button>
        ))}
      </div>
      <Chart
        title="Tokens per second"
        times={times}
        format={short}
        series={[
          { name: 'read', kind: 'one', values: per((point) => point.document_tokens) },
          { name: 'answered', kind: 'two', values: per((point) => point.answer_tokens) },
        ]}
      />
      <Chart
        title="Seconds per document"
        times={times}
        format={duration}
        tick={axisSeconds}
        series={[
          { name: 'queued to committed', kind: 'one', values: points.map((point) => point.latency_p50) },
          { name: '95 %', kind: 'three', values: points.map((point) => point.latency_p95) },
          { name: 'run', kind: 'two', values: points.map((point) => point.run_p50) },
        ]}
      />
    </section>
  );
}

function Failures() {
  const causes = useLive('rates')?.causes ?? [];
  const most = Math.max(1, ...causes.map((cause) => cause.count));
  return (
    <Panel title="Failures by cause" id="failures" aside={<span class="aside">15 minutes</span>}>
      {causes.length === 0 ? (
        <p class="empty">No request has failed.</p>
      ) : (
        <ol class="causes">
          {causes.slice(0, 12).map((cause) => (
            <li key={cause.code}>
              <span class="code">{cause.code}</span>
              <span class="bar">
                <span class="failed" style={{ width: `${(100 * cause.count) / most}%` }} />
              </span>
              <b>{count(cause.count)}</b>
            </li>
          ))}
        </ol>
      )}
      <p class="panel-foot">
        <Link to="/dead">Dead items</Link> ended three cohorts and are not tried again.
      </p>
    </Panel>
  );
}

export function Overview() {
  const batches = useLive('batches');
  return (
    <>
      <h1 class="visually-hidden">Overview</h1>
      <Tiles />
      <Charts />
      <CohortsPanel />
      <div class="columns">
        <Panel
          title="Batches"
          id="batches"
          aside={
            <span class="aside">
              {batches === undefined ? '' : `${count(batches.unfinished)} under way · `}
              <Link to="/batches">{batches === undefined ? 'all' : `all ${count(batches.total)}`}</Link>
            </span>
          }
        >
          <BatchTable rows={batches?.recent} empty="No batches yet. Submit one: longhaul submit FILE.jsonl" />
        </Panel>
        <Failures />
      </div>
    </>
  );
}
