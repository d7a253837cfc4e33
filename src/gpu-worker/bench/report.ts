/** What `longhaul bench prefill` measured: lines for a terminal, Markdown, and bars as SVG; pure. */
import type { CellResult } from './measure.js';

const share = (part: number, whole: number) => `${((100 * part) / whole).toFixed(0)}%`;

function way({ method, l_a, l_p, ranks, threads, places, backend }: CellResult): string {
  const sizes = method === 'apb' ? ` (l_a ${l_a}, l_p ${l_p})` : '';
  const unit = backend.startsWith('cpu') ? 'processors' : 'GPUs';
  const own = places * (backend.startsWith('cpu') ? threads : 1);
  const virtual = ranks > places ? `, virtual ranks on ${own} ${unit}` : '';
  return `${method}${sizes}, ${ranks} x ${threads}${virtual}`;
}

/** One line below `cellHeading`. */
export function describeCell(result: CellResult): string {
  const { tokens, tokens_per_s, peak_rss_bytes, seconds, phases, flops, model_seconds } = result;
  const parts = Object.entries(phases)
    .filter(([, part]) => part > 0.005 * seconds)
    .map(([name, part]) => `${name} ${share(part, seconds)}`);
  return [
    way(result).padEnd(wayWidth),
    `${tokens}`.padStart(8),
    seconds.toFixed(3).padStart(9),
    tokens_per_s.toFixed(0).padStart(9),
    (flops / 1e9).toFixed(0).padStart(8),
    share(model_seconds, seconds).padStart(6),
    (peak_rss_bytes / 1e6).toFixed(0).padStart(8),
    `  ${parts.join(', ')}`,
  ].join(' ');
}

const wayWidth = 62;
export const cellHeading = [
  'method, ranks x threads'.padEnd(wayWidth),
  'tokens'.padStart(8),
  'seconds'.padStart(9),
  'tokens/s'.padStart(9),
  'GFLOP'.padStart(8),
  'model'.padStart(6),
  'peak MB'.padStart(8),
  '  phases of the slowest rank',
].join(' ');

/** Two tables: speed beside the model of the time, and the phases in seconds. */
export function markdown(results: readonly CellResult[], machine: string): string {
  const phases = phasesOf(results);
  const table = (head: string[], rows: string[][]) =>
    [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
  return [
    '# Prefill',
    '',
    `${machine}; ${[...new Set(results.map(({ backend, comm }) => `${backend}, ${comm}`))].join('; ')}.`,
    '',
    'Seconds of the slowest rank, best of up to five runs that together take a second. FLOPs are those of all ranks, counted',
    'from shapes. The model of the time lets products and attention run at their ceilings (GFLOP/s of one rank: given, or measured',
    'before each cell on a CPU, or what the kernels of a Hopper GPU reach at best) with communication and selection free; its share',
    'of the measured time is how close a prefill comes.',
    '',
    table(
      ['method, ranks x threads', 'tokens', 'seconds', 'tokens/s', 'GFLOP', 'ceilings', 'model', 'peak MB'],
      results.map((each) => [
        way(each),
        `${each.tokens}`,
        each.seconds.toFixed(3),
        each.tokens_per_s.toFixed(0),
        (each.flops / 1e9).toFixed(1),
        `${(each.ceilings.linear / 1e9).toFixed(0)}, ${(each.ceilings.attention / 1e9).toFixed(0)}`,
        share(each.model_seconds, each.seconds),
        (each.peak_rss_bytes / 1e6).toFixed(0),
      ]),
    ),
    '',
    'Seconds of each phase on the slowest rank, all layers together. Attention of ring and ulysses contains its communication.',
    '',
    table(
      ['method, ranks x threads', 'tokens', ...phases],
      results.map((each) => [
        way(each),
        `${each.tokens}`,
        ...phases.map((phase) => (each.phases[phase] ?? 0).toFixed(3)),
      ]),
    ),
    '',
    '![Phases of each prefill](prefill.svg)',
    '',
  ].join('\n');
}

const colours = ['#4c78a8', '#b279a2', '#e45756', '#f58518', '#54a24b', '#72b7b2', '#eeca3b', '#9d9da1'];
const [margin, barsWidth, right, rowHeight] = [20, 520, 80, 24];
/** Pixels that words take at the most in a wide sans-serif of 12: SVG cannot measure them before they are drawn. */
const wide = (words: string) => Math.ceil(7.2 * words.length);

/** One bar per cell, its phases stacked; the bars of one length share a scale. */
export function svg(results: readonly CellResult[]): string {
  const phases = phasesOf(results);
  const lengths = [...new Set(results.map(({ tokens }) => tokens))].sort((a, b) => a - b);
  const text = (x: number, y: number, words: string, more = '') =>
    `<text x="${x}" y="${y}"${more}>${words}</text>`;
  const left = margin + Math.max(0, ...results.map((cell) => wide(way(cell)))) + 8;
  let [x, y] = [margin, 44];
  const parts: string[] = [];
  for (const [index, phase] of phases.entries()) {
    parts.push(`<rect x="${x}" y="10" width="12" height="12" fill="${colours[index]}"/>`);
    parts.push(text(x + 18, 20, phase));
    x += 18 + wide(phase) + 18;
  }
  const legendEnd = x;
  for (const tokens of lengths) {
    const cells = results.filter((each) => each.tokens === tokens);
    const slowest = Math.max(...cells.map(({ seconds }) => seconds));
    parts.push(text(margin, y + 14, `${tokens} tokens`, ' font-weight="bold"'));
    y += rowHeight;
    for (const cell of cells) {
      parts.push(text(left - 8, y + 14, way(cell), ' text-anchor="end"'));
      x = left;
      for (const [index, phase] of phases.entries()) {
        const width = (barsWidth * (cell.phases[phase] ?? 0)) / slowest;
        parts.push(
          `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="18" fill="${colours[index]}"/>`,
        );
        x += width;
      }
      parts.push(text(Math.round(x) + 6, y + 14, `${cell.seconds.toFixed(2)} s`));
      y += rowHeight;
    }
    y += 8;
  }
  const size = `width="${Math.max(left + barsWidth + right, legendEnd)}" height="${y}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="white"/>',
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function phasesOf(results: readonly CellResult[]): (keyof CellResult['phases'])[] {
  return Object.keys(results[0]?.phases ?? {}) as (keyof CellResult['phases'])[];
}
