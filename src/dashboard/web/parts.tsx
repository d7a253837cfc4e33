import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { RequestCounts } from '../api.js';
import type { CallError } from './client.js';
import { count } from './format.js';

/** States of batches, documents, cohorts and ranks, by what they mean for whoever looks. */
const tones: Record<string, string> = {
  completed: 'good',
  answered: 'good',
  READY: 'good',
  in_progress: 'busy',
  running: 'busy',
  RUNNING: 'busy',
  prefill: 'busy',
  decode: 'busy',
  finalizing: 'busy',
  failed: 'bad',
  ABORTED: 'bad',
  'no heartbeat': 'bad',
  expired: 'warn',
  cancelling: 'warn',
  'given back': 'warn',
  DRAINING: 'warn',
  aborting: 'bad',
  preparing: 'busy',
  FORMING: 'warn',
};

export const toneOf = (state: string): string => tones[state] ?? 'calm';

export function Badge({ state }: { state: string }) {
  return <span class={`badge ${toneOf(state)}`}>{state.replaceAll('_', ' ').toLowerCase()}</span>;
}

export function Panel(props: {
  title: string;
  id: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
}) {
  return (
    <section class="panel" aria-labelledby={props.id}>
      <header class="panel-head">
        <h2 id={props.id}>{props.title}</h2>
        {props.aside}
      </header>
      {props.children}
    </section>
  );
}

const ends = ['answered', 'failed', 'expired', 'cancelled'] as const;

/** How a batch's requests ended so far, as one bar. */
export function CountsBar({ counts }: { counts: RequestCounts }) {
  const { total, pending } = counts;
  const parts = ends.filter((end) => counts[end] > 0);
  const told = [...parts.map((end) => `${count(counts[end])} ${end}`), `${count(pending)} pending`].join(
    ', ',
  );
  return (
    <div class="bar" role="img" aria-label={`${told}, of ${count(total)}`} title={told}>
      {parts.map((end) => (
        <span key={end} class={end} style={{ width: `${(100 * counts[end]) / Math.max(1, total)}%` }} />
      ))}
    </div>
  );
}

/** A share from 0 to 1. */
export function Meter({ share, label, kind = 'busy' }: { share: number; label: string; kind?: string }) {
  return (
    <div class="bar thin" role="img" aria-label={label}>
      <span class={kind} style={{ width: `${100 * Math.min(1, Math.max(0, share))}%` }} />
    </div>
  );
}

export function Problem({ error }: { error: Pick<CallError, 'message'> }) {
  return (
    <p class="note bad" role="alert">
      {error.message}
    </p>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  const copy = (): void => {
    navigator.clipboard.writeText(text).then(
      () => {
        setCopied(true);
        setTimeout(() => {
          setCopied(false);
        }, 1500);
      },
      () => undefined,
    );
  };
  return (
    <button type="button" class="small" onClick={copy} aria-label={`copy ${what}`}>
      {copied ? 'copied' : 'copy'}
    </button>
  );
}

export type Fact = [name: string, value: ComponentChildren];

export function FactsList({ facts }: { facts: Fact[] }) {
  return (
    <dl class="facts-list">
      {facts.map(([name, value], i) => (
        <div key={i}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
