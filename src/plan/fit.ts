/** From the seconds of short prefills to speeds; pure. */
import type { Rates } from './blocks.js';
import { efforts, kindOf, type Effort, type Kind, type Speeds, type Way } from './cost.js';
import type { ModelShape } from './work.js';
import { sum } from './sum.js';

/** A prefill, as it was measured. */
export interface Measurement {
  way: Way;
  /** Tokens of each rank; a ring in zigzag takes their sum. */
  blocks: number[];
  /** Of each rank. */
  seconds: number[];
}

export interface Measured {
  measurements: readonly Measurement[];
  /** Seconds of the `clock` are the slowest rank's on all ranks; those of a `processor` are each rank's own. */
  seconds_by: 'clock' | 'processor';
  rates: Rates;
}

/**
 * One rank tells its speeds of products and of attention. Ranks that compute at the same time may have others: `full`,
 * with even and uneven blocks, tells all three of its speeds, and the other kinds take that of products from it.
 * A kind that was not measured at two lengths is taken for as fast as one rank, and receives for nothing.
 * @throws Error when one rank was not measured at two lengths.
 */
export function fitSpeeds(shape: ModelShape, { measurements, seconds_by, rates }: Measured): Speeds {
  const equationsOf = (kind: Kind) =>
    measurements
      .filter(({ way }) => kindOf(way) === kind)
      .flatMap(({ way, blocks, seconds }) => {
        const ranks = efforts(shape, way, blocks).map((effort, rank) => ({
          ...effort,
          seconds: seconds[rank] as number,
        }));
        return seconds_by === 'processor' ? ranks : [ranks.reduce((a, b) => (work(b) > work(a) ? b : a))];
      });
  const single = equationsOf('alone');
  if (single.length < 2) throw new Error('one rank was not measured at two lengths');
  const [products = 0, alone = 0] = solve(
    single.map(({ linear, attention, seconds }) => ({
      amounts: [linear, attention],
      rest: seconds,
      seconds,
    })),
  );
  const same = (value: number) => ({ alone: value, full: value, ring: value, ulysses: value, apb: value });
  const [linear, attention, received] = [same(products), same(alone), same(0)];
  for (const kind of ['full', 'ring', 'ulysses', 'apb'] as const) {
    const several = equationsOf(kind);
    if (several.length < 2) continue;
    if (kind === 'full') {
      const [own = products] = solve(
        several.map((each) => ({
          amounts: [each.linear, each.attention, each.received],
          rest: each.seconds,
          seconds: each.seconds,
        })),
      );
      for (const other of ['full', 'ring', 'ulysses', 'apb'] as const) linear[other] = own;
    }
    [attention[kind] = alone, received[kind] = 0] = solve(
      several.map((each) => ({
        amounts: [each.attention, each.received],
        rest: each.seconds - each.linear * linear[kind],
        seconds: each.seconds,
      })),
    );
  }
  return { linear, attention, received, rates };
}

const work = ({ linear, attention }: Effort) => linear + attention;

interface Equation {
  amounts: number[];
  /** Seconds that the amounts are to explain. */
  rest: number;
  /** Of the whole prefill: an error counts by its share of them. */
  seconds: number;
}

/** The rates of the amounts, none below 0, with the least sum of squared relative errors: the best of all subsets of them. */
function solve(equations: readonly Equation[]): number[] {
  const count = equations[0]?.amounts.length ?? 0;
  const scaled = equations.map(({ amounts, rest, seconds }) => ({
    row: amounts.map((amount) => amount / seconds),
    value: rest / seconds,
  }));
  const error = (rates: readonly number[]) =>
    sum(scaled.map(({ row, value }) => (sum(row.map((x, i) => x * (rates[i] as number))) - value) ** 2));
  const subsets = Array.from({ length: 2 ** count }, (_, bits) =>
    Array.from({ length: count }, (_, i) => i).filter((i) => (bits >> i) % 2 === 1),
  );
  const tried = subsets.map((subset) => {
    const products = (i: number, j: number) => sum(scaled.map(({ row }) => (row[i] ?? 0) * (row[j] ?? 0)));
    const rates = eliminate(
      subset.map((i) => subset.map((j) => products(i, j))),
      subset.map((i) => sum(scaled.map(({ row, value }) => (row[i] ?? 0) * value))),
    );
    return Array.from({ length: count }, (_, i) => rates[subset.indexOf(i)] ?? 0);
  });
  return tried
    .filter((rates) => rates.every((rate) => rate >= 0 && Number.isFinite(rate)))
    .reduce((a, b) => (error(b) < error(a) ? b : a));
}

/** Gauss's, of a small matrix whose diagonal is not 0; NaN or infinite where the equations say the same. */
function eliminate(matrix: number[][], values: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, values[i] as number]);
  rows.forEach((pivot, i) => {
    for (const [j, row] of rows.entries()) {
      if (j === i) continue;
      const factor = (row[i] as number) / (pivot[i] as number);
      rows[j] = row.map((x, k) => x - factor * (pivot[k] as number));
    }
  });
  return rows.map((row, i) => (row.at(-1) as number) / (row[i] as number));
}
