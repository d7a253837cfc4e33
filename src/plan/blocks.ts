/**
 * From measured rates to block lengths with which all ranks end at the same time; pure. Every rank of
 * a cohort computes the plan for itself from the same numbers.
 */
import type { RunOptions } from '../contracts/request.js';
import { sum } from './sum.js';

/** Seconds of one rank over all layers, as the engine measures them. */
export interface Rates {
  /** Per row of its block or anchor: norms, GEMMs, retaining scores. */
  rowSeconds: number;
  /** Per pair of a query row and a key. */
  pairSeconds: number;
}

/** What decides how much a rank has to do. */
export type PlanOptions = Pick<RunOptions, 'method' | 'ranks' | 'anchor' | 'passing'>;

/** The engine's tiles are multiples of it. */
const MULTIPLE = 16;
/** Rates this close to the cohort's median are taken for it: a short measurement tells no more. */
const NOISE = 0.25;
const BISECTIONS = 100;

/**
 * One length per rank, which sum up to the document. All but the last are multiples of 16, and none
 * is below l_p, so that every rank can fill its passing block. A document that is too short for
 * that is cut evenly, as the engine does without a plan.
 * `options.anchor` null (star's own) counts as an even block.
 */
export function planBlocks(options: PlanOptions, documentTokens: number, rates: readonly Rates[]): number[] {
  const { ranks } = options;
  if (rates.length !== ranks) throw new Error(`${rates.length} rates were given for ${ranks} ranks`);
  const least = Math.max(MULTIPLE, Math.ceil(options.passing / MULTIPLE) * MULTIPLE);
  if (documentTokens < ranks * least) return evenBlocks(documentTokens, ranks);
  const cost = costs(options, documentTokens, steady(rates));
  return round(balance(cost, documentTokens, ranks, least), documentTokens);
}

export function evenBlocks(documentTokens: number, ranks: number): number[] {
  return Array.from(
    { length: ranks },
    (_, rank) => Math.floor(documentTokens / ranks) + (rank < documentTokens % ranks ? 1 : 0),
  );
}

/** Seconds that rank `rank` takes for a block of `rows` which begins at `start`. Grows with both. */
type Cost = (rank: number, rows: number, start: number) => number;

/** Exported for the tests. */
export function costs(options: PlanOptions, documentTokens: number, rates: readonly Rates[]): Cost {
  const { method, ranks, passing } = options;
  const anchored = method === 'apb' || method === 'star';
  const anchor = anchored ? Math.min(options.anchor ?? documentTokens / ranks, documentTokens) : 0;
  return (rank, rows, start) => {
    const { rowSeconds, pairSeconds } = rates[rank] as Rates;
    const seconds = (computed: number, pairs: number) => computed * rowSeconds + pairs * pairSeconds;
    const causal = (rows * rows) / 2;
    // The heads are divided, whatever the blocks are.
    if (method === 'ulysses') return seconds(rows, documentTokens ** 2 / 2 / ranks);
    if (!anchored) return seconds(rows, causal + rows * start);
    if (rank === 0) return seconds(rows, causal);
    const passed = method === 'apb' ? rank * passing : 0;
    return seconds(rows + anchor, (anchor * anchor) / 2 + causal + rows * (anchor + passed));
  };
}

/** Blocks of at least `least` rows, in fractions of a row, with which all ranks take equally long. */
function balance(cost: Cost, documentTokens: number, ranks: number, least: number): number[] {
  const all = Array.from({ length: ranks }, (_, rank) => rank);
  const filled = (seconds: number): number[] => {
    let start = 0;
    return all.map((rank) => {
      const at = start;
      const rows = Math.max(
        least,
        largest(documentTokens, (x) => cost(rank, x, at) <= seconds),
      );
      start += rows;
      return rows;
    });
  };
  const ample = Math.max(...all.map((rank) => cost(rank, documentTokens, documentTokens)));
  const lengths = filled(largest(ample, (seconds) => sum(filled(seconds)) <= documentTokens));
  const scale = documentTokens / sum(lengths);
  return lengths.map((length) => length * scale);
}

/** The largest x in [0, most] for which `fits` still holds; 0 when it never does. */
function largest(most: number, fits: (x: number) => boolean): number {
  if (fits(most)) return most;
  let [low, high] = [0, most];
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** Whole multiples; those left over go to the first ranks, one each, and the broken one to the last. */
function round(ideal: readonly number[], documentTokens: number): number[] {
  const units = ideal.map((length) => Math.floor(length / MULTIPLE + 1e-9));
  const left = Math.floor(documentTokens / MULTIPLE) - sum(units);
  return units.map(
    (count, rank) =>
      (count + (rank < left ? 1 : 0)) * MULTIPLE +
      (rank === units.length - 1 ? documentTokens % MULTIPLE : 0),
  );
}

/** What differs by no more than noise is the same machine: its ranks get the same rates. */
function steady(rates: readonly Rates[]): Rates[] {
  const settle = (values: number[]): number[] => {
    const sorted = [...values].sort((a, b) => a - b);
    const median = sorted[Math.floor((sorted.length - 1) / 2)] as number;
    return values.map((value) => (Math.abs(value - median) <= NOISE * median ? median : value));
  };
  const rows = settle(rates.map(({ rowSeconds }) => rowSeconds));
  const pairs = settle(rates.map(({ pairSeconds }) => pairSeconds));
  return rows.map((rowSeconds, rank) => ({ rowSeconds, pairSeconds: pairs[rank] as number }));
}
