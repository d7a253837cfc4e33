/** From the seconds of short prefills to speeds; pure. */
import { evenBlocks } from './blocks.js';
import { efforts, kindOf, KINDS, type Effort, type Kind, type Speeds, type Way } from './cost.js';
import type { ModelShape } from './work.js';

/** A prefill with even blocks, as it was measured. */
export interface Measurement {
  way: Way;
  tokens: number;
  /** Of the slowest rank. */
  seconds: number;
}

/**
 * Two prefills of one rank, of different lengths, tell the speeds of products and of attention. Those of several ranks
 * take the speed of products from there, and have two of their own, of attention and of what is received. A kind
 * that was not measured has the attention of one rank and receives for nothing.
 * @throws Error when one rank was not measured at two lengths.
 */
export function fitSpeeds(shape: ModelShape, measurements: readonly Measurement[]): Speeds {
  const of = (kind: Kind) =>
    measurements
      .filter(({ way }) => kindOf(way) === kind)
      // The last rank has most to do.
      .map(({ way, tokens, seconds }) => ({
        ...(efforts(shape, way, evenBlocks(tokens, way.ranks)).at(-1) as Effort),
        seconds,
      }));
  const alone = of('alone');
  if (alone.length < 2) throw new Error('one rank was not measured at two lengths');
  const [linear, attention] = twoRates(alone.map((each) => [each.linear, each.attention, each.seconds]));
  const speeds = KINDS.map((kind) => {
    if (kind === 'alone') return [kind, attention, 0] as const;
    const rest = of(kind).map((each): Row => {
      const left = Math.max(each.seconds - each.linear * linear, 0);
      return [each.attention, each.received, left, each.seconds];
    });
    const [own, received] = rest.length < 2 ? [attention, 0] : twoRates(rest);
    return [kind, own, received] as const;
  });
  return {
    linear,
    attention: byKind(speeds.map(([kind, own]) => [kind, own])),
    received: byKind(speeds.map(([kind, , received]) => [kind, received])),
  };
}

/** Two amounts, their seconds, and the seconds of the whole prefill, by which an error counts. */
type Row = readonly [first: number, second: number, seconds: number, whole?: number];

/** The two rates, neither below 0, that explain the seconds with the least sum of squared relative errors. */
function twoRates(rows: readonly Row[]): [number, number] {
  let [aa, ab, bb, ay, by] = [0, 0, 0, 0, 0];
  for (const [a, b, y, whole = y] of rows) {
    const weight = 1 / whole ** 2;
    aa += weight * a * a;
    ab += weight * a * b;
    bb += weight * b * b;
    ay += weight * a * y;
    by += weight * b * y;
  }
  const determinant = aa * bb - ab * ab;
  // Amounts in one proportion at all lengths leave one rate to be told.
  const both: [number, number] =
    determinant > 1e-9 * aa * bb
      ? [(ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant]
      : [-1, 0];
  if (both[0] >= 0 && both[1] >= 0) return both;
  const first: [number, number] = [aa > 0 ? ay / aa : 0, 0];
  const second: [number, number] = [0, bb > 0 ? by / bb : 0];
  const error = ([p, q]: [number, number]) =>
    rows.reduce((sum, [a, b, y, whole = y]) => sum + ((a * p + b * q - y) / whole) ** 2, 0);
  return error(first) <= error(second) ? first : second;
}

const byKind = (entries: [Kind, number][]) => Object.fromEntries(entries) as Record<Kind, number>;
