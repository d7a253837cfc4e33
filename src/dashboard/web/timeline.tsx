/** How a work item came to its answers: its steps, and each rank's part as bars over one axis. */
import type { DocumentDetail, ItemTimeline, RankReport } from '../api.js';
import { dateTime, duration, milliseconds, percent, when } from './format.js';
import { serverNow, useLiveAll } from './live.js';
import { Meter } from './parts.js';

interface Step {
  name: string;
  at: number | null;
  detail: string;
}

const between = (from: number, to: number): string => duration(Math.max(0, to - from) / 1000);

function stepsOf(detail: DocumentDetail): Step[] {
  const { timeline, queued_at, committed_at, running } = detail;
  const queued = { name: 'Queued', at: queued_at, detail: '' };
  if (timeline === null) {
    const now =
      running === null
        ? ''
        : `${running.phase} ${running.total > 0 ? `${running.done}/${running.total}` : ''}`;
    return [
      queued,
      { name: 'Running', at: null, detail: running === null ? 'not now' : `${now}, epoch ${running.epoch}` },
      { name: 'Committed', at: committed_at, detail: committed_at === null ? 'not yet' : '' },
    ];
  }
  const { claimed_at, prepared_at, finished_at } = timeline;
  const longest = (pick: (rank: ItemTimeline['ranks'][number]) => number) =>
    Math.max(0, ...timeline.ranks.map(pick));
  const prefill = longest((rank) => rank.prefill);
  return [
    queued,
    { name: 'Claimed', at: claimed_at, detail: `waited ${between(timeline.queued_at, claimed_at)}` },
    { name: 'Prepared', at: prepared_at, detail: `in ${between(claimed_at, prepared_at)}` },
    {
      name: 'Prefilled',
      at: Math.min(finished_at, prepared_at + prefill),
      detail: `in ${milliseconds(prefill)}`,
    },
    { name: 'Decoded', at: finished_at, detail: `in ${milliseconds(longest((rank) => rank.decode))}` },
    {
      name: 'Committed',
      at: committed_at,
      detail: committed_at === null ? 'not yet' : `in S3 after ${between(timeline.queued_at, committed_at)}`,
    },
  ];
}

export function Steps({ detail }: { detail: DocumentDetail }) {
  return (
    <ol class="steps">
      {stepsOf(detail).map(({ name, at, detail: more }) => (
        <li key={name} class={at === null ? 'ahead' : 'done'}>
          <b>{name}</b>
          <span title={at === null ? undefined : dateTime(at)}>
            {at === null ? '–' : when(at, serverNow())}
          </span>
          <span>{more}</span>
        </li>
      ))}
    </ol>
  );
}

/** In the order in which a layer runs them. */
const order = ['qkv', 'scores', 'selection', 'communication', 'attention', 'output', 'mlp'];

function phasesOf(timeline: ItemTimeline): string[] {
  const named = new Set(timeline.ranks.flatMap(({ phases }) => Object.keys(phases ?? {})));
  return order.filter((phase) => named.has(phase));
}

export function RankBars({ timeline }: { timeline: ItemTimeline }) {
  const { claimed_at, prepared_at } = timeline;
  const span = Math.max(
    1,
    ...timeline.ranks.map((rank) => prepared_at - claimed_at + rank.prefill + rank.decode),
  );
  const share = (ms: number): string => `${(100 * ms) / span}%`;
  const phases = phasesOf(timeline);
  const ready = prepared_at - claimed_at;
  return (
    <>
      <p class="legend-row" aria-hidden="true">
        {['prepare', ...(phases.length === 0 ? ['prefill'] : phases), 'decode'].map((name) => (
          <span key={name} class={`swatch ${name}`}>
            {name}
          </span>
        ))}
      </p>
      <div class="gantt" aria-hidden="true">
        {timeline.ranks.map((rank) => {
          // Phases are sums over the layers: their places in the bar say how much, not when.
          const measured = Object.values(rank.phases ?? {}).reduce((sum, ms) => sum + ms, 0);
          const parts =
            rank.phases === null || measured === 0
              ? [{ name: 'prefill', ms: rank.prefill }]
              : phases.map((name) => ({
                  name,
                  ms: ((rank.phases?.[name] ?? 0) * rank.prefill) / Math.max(measured, rank.prefill),
                }));
          return (
            <div key={rank.rank} class="lane">
              <span class="lane-name">rank {rank.rank}</span>
              <span class="lane-bars">
                <span
                  class="swatch-bar prepare"
                  style={{ left: 0, width: share(Math.min(rank.prepare, ready)) }}
                />
                <span class="lane-run" style={{ left: share(ready), width: share(rank.prefill) }}>
                  {parts.map(({ name, ms }) => (
                    <span
                      key={name}
                      class={`swatch-bar ${name}`}
                      title={`${name} ${milliseconds(ms)}`}
                      style={{ width: `${(100 * ms) / Math.max(0.001, rank.prefill)}%` }}
                    />
                  ))}
                </span>
                <span
                  class="swatch-bar decode"
                  title={`decode ${milliseconds(rank.decode)}`}
                  style={{ left: share(ready + rank.prefill), width: share(rank.decode) }}
                />
              </span>
            </div>
          );
        })}
        <div class="lane axis">
          <span class="lane-name" />
          <span class="lane-bars">
            {[0, 0.25, 0.5, 0.75, 1].map((at) => (
              <span key={at} style={{ left: `${100 * at}%` }}>
                {milliseconds(span * at)}
              </span>
            ))}
          </span>
        </div>
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="times by rank">
        <table class="tight">
          <thead>
            <tr>
              {['rank', 'prepare', 'prefill', ...phases, 'decode'].map((name) => (
                <th key={name} scope="col" class="number">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {timeline.ranks.map((rank) => (
              <tr key={rank.rank}>
                <th scope="row" class="number">
                  {rank.rank}
                </th>
                <td class="number">{milliseconds(rank.prepare)}</td>
                <td class="number">{milliseconds(rank.prefill)}</td>
                {phases.map((name) => (
                  <td key={name} class="number">
                    {rank.phases === null ? '–' : milliseconds(rank.phases[name] ?? 0)}
                  </td>
                ))}
                <td class="number">{milliseconds(rank.decode)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** What the ranks that have the item in hand say right now. */
export function RanksNow({ batch, item }: { batch: string; item: number }) {
  const beats = useLiveAll<RankReport | null>('rank:').flatMap(([key, beat]) =>
    beat?.batch === batch && beat.item === item ? [{ key, beat }] : [],
  );
  if (beats.length === 0) return null;
  return (
    <ol class="now" aria-label="ranks at work">
      {beats.map(({ key, beat }) => {
        const [, cohort, rank] = key.split(':');
        const told = `${beat.phase}${beat.total > 0 ? ` ${beat.done}/${beat.total}` : ''}`;
        return (
          <li key={key}>
            <span>
              {cohort} rank {rank}
            </span>
            <Meter
              share={beat.total > 0 ? beat.done / beat.total : 0}
              label={`${cohort} rank ${rank}: ${told}`}
            />
            <span>
              {told}
              {beat.usage.busy === null ? '' : `, ${percent(beat.usage.busy)} busy`}
            </span>
          </li>
        );
      })}
    </ol>
  );
}
