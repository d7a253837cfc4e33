/** Accuracy against seconds of prefill, as an SVG file for pages of any colour. */
import { byGroup, summary, type Scored, type Seconds } from './report.js';
import type { EvalRequest } from './requests.js';

const PANEL = { width: 300, height: 200, left: 46, top: 34, right: 14, bottom: 44 };
const KEY_LINE = 18;
/** Told apart by people who do not see all colours, on light and on dark (Okabe and Ito, 2008). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8c6bb1', '#7f7f7f'];

/** One panel a group of requests, one mark a variant: the mean score with its 95% interval over the mean time. */
export function plot(requests: readonly EvalRequest[], scored: readonly Scored[], seconds: Seconds): string {
  const groups = byGroup(requests);
  const width = PANEL.left + PANEL.width + PANEL.right;
  const height = PANEL.top + PANEL.height + PANEL.bottom;
  const panels = groups.map(
    ({ name, own }, i) => `<g transform="translate(${i * width} 0)">${panel(name, own, scored, seconds)}</g>`,
  );
  const key = scored.map(
    ({ variant }, i) =>
      mark(i, PANEL.left + 6, height + i * KEY_LINE) +
      `<text x="${PANEL.left + 18}" y="${height + i * KEY_LINE + 4}">${escaped(variant)}</text>`,
  );
  const size = { width: Math.max(1, groups.length) * width, height: height + scored.length * KEY_LINE };
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img">`,
    `<title>Accuracy against seconds of ${seconds}</title>`,
    '<style>',
    ':root { color: #24292f } @media (prefers-color-scheme: dark) { :root { color: #d0d7de } }',
    'text { font: 12px system-ui, sans-serif; fill: currentColor } .axis { stroke: currentColor; stroke-width: 1 }',
    '.grid { stroke: currentColor; stroke-opacity: 0.15 }',
    '</style>',
    ...panels,
    ...key,
    '</svg>',
    '',
  ].join('\n');
}

function panel(
  name: string,
  requests: readonly EvalRequest[],
  scored: readonly Scored[],
  kind: Seconds,
): string {
  const { width, height, left, top } = PANEL;
  const marks = scored.flatMap((each, i) => {
    const { accuracy, seconds } = summary(requests, each, kind);
    return seconds === null ? [] : [{ ...accuracy, seconds, index: i }];
  });
  const last = roundUp(Math.max(0, ...marks.map(({ seconds }) => seconds)));
  const x = (seconds: number) => fixed(left + (seconds / last) * width);
  const y = (share: number) => fixed(top + (1 - share) * height);
  return [
    `<text x="${left}" y="16">${escaped(name)}</text>`,
    ...[0, 0.25, 0.5, 0.75, 1].map(
      (share) =>
        `<line class="grid" x1="${left}" x2="${left + width}" y1="${y(share)}" y2="${y(share)}"/>` +
        `<text x="${left - 6}" y="${fixed(Number(y(share)) + 4)}" text-anchor="end">${100 * share}%</text>`,
    ),
    `<path class="axis" fill="none" d="M${left} ${top}V${top + height}H${left + width}"/>`,
    ...[0, 0.5, 1].map(
      (part) =>
        `<text x="${x(part * last)}" y="${top + height + 16}" text-anchor="middle">${Number((part * last).toPrecision(3))}</text>`,
    ),
    `<text x="${left + width / 2}" y="${top + height + 32}" text-anchor="middle">mean ${kind}, s</text>`,
    ...marks.map(
      ({ index, seconds, low, mean, high }) =>
        `<line x1="${x(seconds)}" x2="${x(seconds)}" y1="${y(low)}" y2="${y(high)}" stroke="${colour(index)}" stroke-width="2"/>` +
        mark(index, Number(x(seconds)), Number(y(mean))),
    ),
  ].join('\n');
}

/** To 1, 2 or 5 times a power of ten; 1 where nothing was measured. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

/** Colours first, then shapes. */
function mark(index: number, x: number, y: number): string {
  const shapes = [
    `M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0`,
    'M-5 -5H5V5H-5Z',
    'M0 -6L6 5H-6Z',
    'M0 -7L6 0L0 7L-6 0Z',
  ];
  const shape = shapes[Math.floor(index / COLOURS.length) % shapes.length] ?? '';
  return `<path transform="translate(${fixed(x)} ${fixed(y)})" d="${shape}" fill="${colour(index)}"/>`;
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length] ?? 'currentColor';
}

function fixed(value: number): string {
  return value.toFixed(1);
}

function escaped(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
}
