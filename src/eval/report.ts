/** Scores of the same documents under several methods, as Markdown. */
import type { EvalRequest, Result } from './requests.js';
import { bootstrap, interval, mcnemar, mean } from './intervals.js';

export interface Scored {
  variant: string;
  batch: string;
  /** By custom_id. */
  results: ReadonlyMap<string, Result>;
}

/** Per task and length: mean score in percent with its 95% interval, and mean prefill seconds. */
export function markdown(requests: readonly EvalRequest[], scored: readonly Scored[]): string {
  const cells = [...new Set(requests.map(cellOf))];
  const rows = cells.map((cell) => {
    const own = requests.filter((each) => cellOf(each) === cell);
    const columns = scored.map((each) => {
      const { accuracy, seconds } = summary(own, each);
      const time = seconds === null ? 'not run' : `${seconds.toFixed(2)} s`;
      return `${percent(accuracy.mean)} [${percent(accuracy.low)}, ${percent(accuracy.high)}], ${time}`;
    });
    return `| ${cell} | ${own.length} | ${columns.join(' | ')} |`;
  });
  const head = [
    requests.some(({ length }) => length !== null) ? 'task, tokens' : 'task',
    'n',
    ...scored.map(({ variant }) => variant),
  ];
  return [
    `| ${head.join(' | ')} |`,
    `|${'---|'.repeat(head.length)}`,
    ...rows,
    ...against(requests, scored),
    '',
  ].join('\n');
}

/** Of one variant over these requests; seconds are null where nothing was answered. */
export function summary(requests: readonly EvalRequest[], { results }: Scored) {
  const found = requests.map((request) => resultOf(request, results));
  const times = found.flatMap(({ prefillSeconds }) => prefillSeconds ?? []);
  return {
    accuracy: interval(found.map(({ score }) => score)),
    seconds: times.length === 0 ? null : mean(times),
  };
}

/**
 * Paired with `full`, where it ran: the mean difference on the same documents with its 95% bootstrap interval,
 * and the exact McNemar test over those that are scored differently.
 */
function against(requests: readonly EvalRequest[], scored: readonly Scored[]): string[] {
  const full = scored.find(({ variant }) => variant === 'full');
  if (full === undefined || scored.length < 2) return [];
  const rows = scored
    .filter((each) => each !== full)
    .map(({ variant, results }) => {
      const differences = requests.map(
        (request) => resultOf(request, results).score - resultOf(request, full.results).score,
      );
      const better = differences.filter((difference) => difference > 0).length;
      const worse = differences.filter((difference) => difference < 0).length;
      const { low, mean: middle, high } = bootstrap(differences);
      // Resampling documents that all agree would give an interval without width.
      const points =
        better + worse === 0 ? 'none differs' : `${signed(middle)} [${signed(low)}, ${signed(high)}]`;
      return `| ${variant} | ${requests.length} | ${points} | ${better} | ${worse} | ${mcnemar(better, worse).toPrecision(2)} |`;
    });
  return [
    '',
    '| against full | n | points, paired | better | worse | p |',
    '|---|---|---|---|---|---|',
    ...rows,
  ];
}

function resultOf({ custom_id }: EvalRequest, results: Scored['results']): Result {
  return results.get(custom_id) ?? { score: 0, prefillSeconds: null };
}

function cellOf({ task, length }: EvalRequest): string {
  return length === null ? task : `${task}, ${length}`;
}

function percent(share: number): string {
  return (100 * share).toFixed(0);
}

function signed(share: number): string {
  const text = percent(share);
  return share > 0 && text !== '0' ? `+${text}` : text.replace(/^-0$/, '0');
}
