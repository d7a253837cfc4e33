/** Scores of the same documents under several methods, as Markdown. */
import type { EvalRequest, Result } from './requests.js';
import { bootstrap, interval, mcnemar, mean } from './intervals.js';

export interface Scored {
  variant: string;
  ranks: number;
  /** By group. */
  batches: Record<string, string>;
  /** By custom_id. */
  results: ReadonlyMap<string, Result>;
}

/** What a document's seconds are: of its prefills, or of the answers as well. */
export type Seconds = 'prefill' | 'prefill and decode';

/** A table for each group of requests: scores in percent with 95% intervals, seconds, and how they differ from full attention's. */
export function markdown(
  requests: readonly EvalRequest[],
  scored: readonly Scored[],
  seconds: Seconds,
): string {
  const groups = byGroup(requests);
  const parts = groups.map(({ name, own }) => [`**${name}**`, '', ...table(own, scored, seconds), '']);
  const all = groups.length < 2 ? [] : ['**All**', '', ...table(requests, scored, seconds), ''];
  return [...parts.flat(), ...all].join('\n');
}

/** Requests that are shown together, with a name for a table or a panel. */
export function byGroup(requests: readonly EvalRequest[]): { name: string; own: EvalRequest[] }[] {
  return [...new Set(requests.map(({ group }) => group))].map((group) => {
    const own = requests.filter((request) => request.group === group);
    return { name: `${group}, n = ${own.length}`, own };
  });
}

/** Of one variant over these requests; seconds are null where nothing was answered. */
export function summary(requests: readonly EvalRequest[], { results }: Scored, seconds: Seconds) {
  const found = requests.map((request) => resultOf(request, results));
  const times = found.flatMap(({ prefillSeconds, decodeSeconds }) =>
    prefillSeconds === null ? [] : prefillSeconds + (seconds === 'prefill' ? 0 : (decodeSeconds ?? 0)),
  );
  return {
    accuracy: interval(found.map(({ score }) => score)),
    seconds: times.length === 0 ? null : mean(times),
  };
}

function table(requests: readonly EvalRequest[], scored: readonly Scored[], seconds: Seconds): string[] {
  const tasks = [...new Set(requests.map(({ task }) => task))];
  const of = (task: string) => requests.filter((request) => request.task === task);
  const full = scored.length < 2 ? undefined : scored.find(({ variant }) => /^full\b/.test(variant));
  const head = [
    'method',
    `${seconds}, s`,
    ...(tasks.length < 2 ? [] : ['all tasks']),
    ...(full === undefined ? [] : [`against ${full.variant}`, 'better, worse', 'p']),
    ...tasks.map((task) => `${task} (n ${of(task).length})`),
  ];
  const rows = scored.map((each) => {
    const whole = summary(requests, each, seconds);
    return [
      each.variant,
      whole.seconds === null ? 'not run' : whole.seconds.toFixed(2),
      ...(tasks.length < 2 ? [] : [percents(whole.accuracy)]),
      ...(full === undefined ? [] : against(requests, each, full)),
      ...tasks.map((task) => percents(summary(of(task), each, seconds).accuracy)),
    ];
  });
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

/**
 * Paired with full attention: the mean difference on the same documents with its 95% bootstrap interval, on how many
 * it is better and worse, and the exact McNemar test of those two.
 */
function against(requests: readonly EvalRequest[], each: Scored, full: Scored): string[] {
  if (each === full) return ['', '', ''];
  const differences = requests.map(
    (request) => resultOf(request, each.results).score - resultOf(request, full.results).score,
  );
  const better = differences.filter((difference) => difference > 0).length;
  const worse = differences.filter((difference) => difference < 0).length;
  // Resampling documents that all agree would give an interval without width.
  if (better + worse === 0) return ['none differs', '0, 0', '1'];
  const { low, mean: middle, high } = bootstrap(differences);
  return [
    `${signed(middle)} [${signed(low)}, ${signed(high)}]`,
    `${better}, ${worse}`,
    mcnemar(better, worse).toPrecision(2),
  ];
}

function resultOf({ custom_id }: EvalRequest, results: Scored['results']): Result {
  return results.get(custom_id) ?? { score: 0, prefillSeconds: null, decodeSeconds: null };
}

function percents({ low, mean: middle, high }: ReturnType<typeof interval>): string {
  return `${percent(middle)} [${percent(low)}, ${percent(high)}]`;
}

function percent(share: number): string {
  return (100 * share).toFixed(0);
}

function signed(share: number): string {
  const text = percent(share);
  return share > 0 && text !== '0' ? `+${text}` : text.replace(/^-0$/, '0');
}
