/** Scores of the same documents under several methods, as Markdown. */
import type { RulerRequest } from './requests.js';
import { interval, mcnemar, mean } from './intervals.js';

export interface Scored {
  variant: string;
  batch: string;
  /** By custom_id; a request without an answer scores 0 and has no prefill time. */
  results: Map<string, { score: number; prefillSeconds: number | null }>;
}

/** Per task and length: mean score in percent with its 95% interval, and mean prefill seconds. */
export function markdown(requests: readonly RulerRequest[], scored: readonly Scored[]): string {
  const cells = [...new Set(requests.map(cellOf))];
  const rows = cells.map((cell) => {
    const ids = requests.filter((each) => cellOf(each) === cell).map((each) => each.custom_id);
    const columns = scored.map(({ results }) => {
      const found = ids.map((id) => results.get(id) ?? { score: 0, prefillSeconds: null });
      const { low, mean: middle, high } = interval(found.map(({ score }) => score));
      const times = found.flatMap(({ prefillSeconds }) => prefillSeconds ?? []);
      const time = times.length === 0 ? 'not run' : `${mean(times).toFixed(2)} s`;
      return `${percent(middle)} [${percent(low)}, ${percent(high)}], ${time}`;
    });
    return `| ${cell} | ${ids.length} | ${columns.join(' | ')} |`;
  });
  const head = ['task, tokens', 'n', ...scored.map(({ variant }) => variant)];
  return [
    `| ${head.join(' | ')} |`,
    `|${'---|'.repeat(head.length)}`,
    ...rows,
    ...against(requests, scored),
    '',
  ].join('\n');
}

/** Exact McNemar test against `full`, where it ran, over the documents that are scored differently. */
function against(requests: readonly RulerRequest[], scored: readonly Scored[]): string[] {
  const full = scored.find(({ variant }) => variant === 'full');
  if (full === undefined || scored.length < 2) return [];
  const rows = scored
    .filter((each) => each !== full)
    .map(({ variant, results }) => {
      const differences = requests.map(
        ({ custom_id }) => (results.get(custom_id)?.score ?? 0) - (full.results.get(custom_id)?.score ?? 0),
      );
      const better = differences.filter((difference) => difference > 0).length;
      const worse = differences.filter((difference) => difference < 0).length;
      return `| ${variant} | ${requests.length} | ${better} | ${worse} | ${mcnemar(better, worse).toPrecision(2)} |`;
    });
  return ['', '| against full | n | better | worse | p |', '|---|---|---|---|---|', ...rows];
}

function cellOf({ task, length }: RulerRequest): string {
  return `${task}, ${length}`;
}

function percent(share: number): string {
  return (100 * share).toFixed(0);
}
