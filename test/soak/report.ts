/** What a soak leaves behind: docs/benchmarks/soak.md and the curves of memory beside it. */
import { cpus } from 'node:os';
import { growthOf, type Series } from './memory.js';

export interface Soak {
  minutes: number;
  documents: number;
  batches: number;
  kills: Record<string, number>;
  /** Seconds from a kill in a cohort until it was READY again. */
  recoveries: number[];
  series: Series[];
}

const COLOURS = [
  '#1f77b4',
  '#d62728',
  '#2ca02c',
  '#9467bd',
  '#8c564b',
  '#e377c2',
  '#17becf',
  '#bcbd22',
  '#7f7f7f',
  '#ff7f0e',
];
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [900, 420, 60, 190, 20, 40];

/** One line a process; a gap where it was dead. */
export function memoryCurves(series: readonly Series[]): string {
  const all = series.flatMap(({ points }) => points);
  const minutes = Math.max(1e-3, ...all.map(({ minute }) => minute));
  const top = Math.max(1, ...all.map(({ megabytes }) => megabytes)) * 1.1;
  const x = (minute: number) => LEFT + (minute / minutes) * (WIDTH - LEFT - RIGHT);
  const y = (megabytes: number) => HEIGHT - BOTTOM - (megabytes / top) * (HEIGHT - TOP - BOTTOM);
  const text = (at: [number, number], words: string, more = '') =>
    `<text x="${at[0].toFixed(0)}" y="${at[1].toFixed(0)}" ${more}>${words}</text>`;
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    `<path d="M${LEFT} ${y(top * part).toFixed(1)}H${WIDTH - RIGHT}" stroke="#ddd"/>`,
    text([LEFT - 6, y(top * part) + 4], (top * part).toFixed(0), 'text-anchor="end"'),
    text([x(minutes * part), HEIGHT - BOTTOM + 16], (minutes * part).toFixed(1), 'text-anchor="middle"'),
  ]);
  const lines = series.flatMap(({ name, points }, index) => {
    const colour = COLOURS[index % COLOURS.length] ?? '#000';
    let last = -1;
    const path = points.map(({ minute, megabytes }) => {
      const step = last >= 0 && minute - last < 0.25 ? 'L' : 'M';
      last = minute;
      return `${step}${x(minute).toFixed(1)} ${y(megabytes).toFixed(1)}`;
    });
    return [
      `<path d="${path.join('')}" fill="none" stroke="${colour}" stroke-width="1.2"/>`,
      text([WIDTH - RIGHT + 12, TOP + 14 + index * 18], name, `fill="${colour}"`),
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    ...ticks,
    ...lines,
    text([LEFT, HEIGHT - 6], 'minutes; resident memory in MB'),
    '</svg>',
    '',
  ].join('\n');
}

export function report({ minutes, documents, batches, kills, recoveries, series }: Soak): string {
  const sorted = [...recoveries].sort((a, b) => a - b);
  const at = (part: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0).toFixed(1);
  const killed = Object.entries(kills).map(([what, times]) => `${what} ${times}`);
  const rows = series.map((one) => {
    const { early, late, flat } = growthOf(one);
    return `| ${one.name} | ${early.toFixed(1)} | ${late.toFixed(1)} | ${flat ? 'flat' : 'grows'} |`;
  });
  const cpu = cpus();
  return `# Soak

\`make soak MINUTES=${Math.round(minutes)}\`, ${cpu[0]?.model ?? 'unknown processor'}, ${cpu.length} cores, ${new Date().toISOString().slice(0, 10)}. Three cohorts of two ranks and an
aggregator with the fast timing profile answer small documents of a random model while ranks and the aggregator are killed at random.

- ${documents} documents in ${batches} batches in ${minutes.toFixed(1)} minutes: ${(documents / minutes).toFixed(0)} a minute, every one with exactly one outcome, and the same answer for the same document.
- Killed: ${killed.join(', ') || 'nobody'}. A cohort was READY again after ${at(0.5)} s (median), ${at(0.95)} s (95 %), ${at(1)} s (at most).

![Resident memory](soak.svg)

| process | MB, second quarter | MB, last quarter | |
|---|---|---|---|
${rows.join('\n')}

Cohort \`spared\` and Redis are never killed: what grows slowly shows there.
`;
}
