import type { Cohort, RankReport } from '../api.js';
import { ago, bytes, duration, percent, shortId } from './format.js';
import { useLive, useLiveAll, useNow } from './live.js';
import { Badge, Meter, Panel, toneOf } from './parts.js';
import { documentPath, Link } from './router.js';

/** A heartbeat this old is worth a colour; ranks beat every two seconds. */
const LATE_SECONDS = 5;
/** Above this number of ranks their cells are small. */
const MANY = 16;
/** A leader writes its state with every heartbeat. */
const GONE_SECONDS = 30;

function useCohorts(): Cohort[] {
  return useLiveAll<Cohort>('cohort:')
    .map(([, cohort]) => cohort)
    .sort((a, b) => a.name.localeCompare(b.name));
}

function doing({ phase, done, total }: RankReport): string {
  return total > 0 ? `${phase} ${done}/${total}` : phase;
}

function Rank({ cohort, rank }: { cohort: string; rank: number }) {
  const beat = useLive(`rank:${cohort}:${rank}`);
  const now = useNow();
  if (beat === undefined || beat === null) {
    return (
      <li class="rank bad">
        <p class="rank-head">
          <b>{rank}</b> <span>no heartbeat</span>
        </p>
      </li>
    );
  }
  const { usage } = beat;
  const age = Math.max(0, (now - beat.at) / 1000);
  const memory = usage.memory_used === null ? 'memory not known' : bytes(usage.memory_used);
  const of = usage.memory_total === null ? '' : ` of ${bytes(usage.memory_total)}`;
  const busy = usage.busy === null ? 'use not known' : percent(usage.busy);
  const share = beat.total > 0 ? beat.done / beat.total : 0;
  const filled =
    usage.memory_used !== null && usage.memory_total ? usage.memory_used / usage.memory_total : 0;
  return (
    <li
      class={`rank ${toneOf(beat.phase)}`}
      title={`${usage.device}: ${memory}${of}, ${busy} busy; heartbeat ${ago(age)}`}
    >
      <p class="rank-head">
        <b>{rank}</b> <span>{doing(beat)}</span>
      </p>
      <Meter share={share} label={`rank ${rank}: ${doing(beat)}`} />
      <Meter share={filled} label={`memory ${memory}${of}`} kind="memory" />
      <p class="rank-foot">
        <span class="memory-text">
          {memory}
          <span class="roomy">{of}</span>
        </span>
        <span>{busy}</span>
        <span class={age > LATE_SECONDS ? 'late' : ''}>
          <span class="visually-hidden">heartbeat </span>
          {duration(age)}
        </span>
      </p>
    </li>
  );
}

function CohortRow({ cohort }: { cohort: Cohort }) {
  const leader = useLive(`rank:${cohort.name}:0`);
  const now = useNow();
  const silent = (now - cohort.updated_at) / 1000;
  const gone = silent > GONE_SECONDS;
  const model = cohort.model.split('/').filter(Boolean).at(-1) ?? cohort.model;
  return (
    <article class="cohort" aria-label={`cohort ${cohort.name}`}>
      <header class="cohort-head">
        <h3>{cohort.name}</h3>
        {gone ? <Badge state="no heartbeat" /> : <Badge state={cohort.state} />}
        <span class="facts">
          generation <b>{cohort.generation.split('.')[0]}</b> · {cohort.ranks} rank
          {cohort.ranks === 1 ? '' : 's'} · {cohort.backend} · <span title={cohort.model}>{model}</span>
        </span>
        {gone ? <span class="work">last heard of {ago(silent)}</span> : null}
        {!gone && leader?.batch && leader.item !== null ? (
          <span class="work">
            <Link to={documentPath(leader.batch, leader.item)}>
              document {leader.item} of {shortId(leader.batch)}
            </Link>
          </span>
        ) : null}
      </header>
      {gone ? null : (
        <ol class={`ranks ${cohort.ranks > MANY ? 'many' : ''}`} aria-label={`ranks of ${cohort.name}`}>
          {Array.from({ length: cohort.ranks }, (_, rank) => (
            <Rank key={rank} cohort={cohort.name} rank={rank} />
          ))}
        </ol>
      )}
    </article>
  );
}

export function CohortsPanel() {
  const cohorts = useCohorts();
  const serving = cohorts.filter(({ state }) => state === 'READY' || state === 'RUNNING').length;
  const aside =
    cohorts.length === 0 ? null : <span class="aside">{`${serving} of ${cohorts.length} serving`}</span>;
  return (
    <Panel title="Cohorts" id="cohorts" aside={aside}>
      {cohorts.length === 0 ? (
        <p class="empty">
          No cohort has reported. Answers need one: <code>longhaul worker</code>, or{' '}
          <code>longhaul local up</code>.
        </p>
      ) : (
        cohorts.map((cohort) => <CohortRow key={cohort.name} cohort={cohort} />)
      )}
    </Panel>
  );
}
