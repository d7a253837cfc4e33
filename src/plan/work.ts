/** How much arithmetic a prefill is, counted from shapes; pure. */
import type { RunOptions } from '../contracts/request.js';
import { sum } from './sum.js';

/** A decoder of the Llama and Qwen2 kind. */
export interface ModelShape {
  layers: number;
  hidden: number;
  /** Of the MLP. */
  intermediate: number;
  queryHeads: number;
  keyValueHeads: number;
  headDimension: number;
  /** Width of the retaining heads; 0: the model has none. */
  retainingHidden: number;
}

/** What the engine's layout says of every rank. */
export interface Shares {
  blocks: readonly { start: number; end: number }[];
  mirrors: readonly { start: number; end: number }[];
  /** Rows of the anchor of ranks > 0. */
  anchorLength: number;
  /** Rows that each rank passes on. */
  passing: readonly number[];
}

/** FLOPs of one rank, all layers together; a multiplication and its addition are two. */
export interface Work {
  qkv: number;
  /** Retaining heads. */
  scores: number;
  attention: number;
  output: number;
  mlp: number;
}

/**
 * FLOPs of each rank. With C hidden, I intermediate, NQ and NK heads of dimension D, R the width of
 * the retaining heads, and per layer n rows (block and anchor) and p pairs of a query row and a key it sees:
 *
 *     qkv 2 n C (NQ + 2 NK) D    scores 2 n R ((NQ + 2 NK) D + NK)    attention 4 p NQ D
 *     output 2 n NQ D C          mlp 6 n C I
 *
 * p of a block of b rows is b (b + 1) / 2 within it; the exact methods add b times its start, and apb and
 * star b times the anchor and the passing blocks of earlier ranks, and the anchor's own a (a + 1) / 2.
 * ulysses divides N (N + 1) / 2 by the ranks. The last layer is its block's qkv alone: nothing behind it
 * feeds a cache. Norms, RoPE, softmax, the selection and the query's own rows are not counted.
 */
export function prefillWork(shape: ModelShape, method: RunOptions['method'], shares: Shares): Work[] {
  const { layers, hidden, intermediate, queryHeads, keyValueHeads, headDimension, retainingHidden } = shape;
  const width = queryHeads * headDimension;
  const qkvWidth = width + 2 * keyValueHeads * headDimension;
  const anchored = method === 'apb' || method === 'star';
  const before = layers - 1;
  const documentTokens = sum([...shares.blocks, ...shares.mirrors].map(({ start, end }) => end - start));
  return shares.blocks.map((block, rank) => {
    const mirror = shares.mirrors[rank] ?? { start: 0, end: 0 };
    const rows = block.end - block.start + mirror.end - mirror.start;
    const anchor = anchored && rank > 0 ? shares.anchorLength : 0;
    const seen = sum(shares.passing.slice(0, rank));
    const pairs =
      method === 'ulysses'
        ? triangle(documentTokens) / shares.blocks.length
        : anchored
          ? triangle(anchor) + triangle(rows) + rows * (anchor + seen)
          : causal(block) + causal(mirror);
    const computed = before * (rows + anchor);
    return {
      qkv: 2 * hidden * qkvWidth * (computed + rows),
      // A rank that passes nothing on has nothing to choose.
      scores:
        (shares.passing[rank] ?? 0) > 0 ? 2 * retainingHidden * (qkvWidth + keyValueHeads) * computed : 0,
      attention: 4 * width * pairs * before,
      output: 2 * width * hidden * computed,
      mlp: 6 * hidden * intermediate * computed,
    };
  });
}

/** FLOP/s that one rank reaches at most. */
export interface Ceilings {
  linear: number;
  attention: number;
}

/** From the engine's seconds per row and per pair over all layers, as `measureRates` gives them. */
export function ceilingsOf(shape: ModelShape, rates: { rowSeconds: number; pairSeconds: number }): Ceilings {
  const { layers, hidden, intermediate, queryHeads, keyValueHeads, headDimension, retainingHidden } = shape;
  const width = queryHeads * headDimension;
  const qkvWidth = width + 2 * keyValueHeads * headDimension;
  const row =
    2 * hidden * qkvWidth +
    2 * retainingHidden * (qkvWidth + keyValueHeads) +
    2 * width * hidden +
    6 * hidden * intermediate;
  return { linear: (layers * row) / rates.rowSeconds, attention: (layers * 4 * width) / rates.pairSeconds };
}

/**
 * The model of the time: seconds of the rank with most to do when products and attention run at their
 * ceilings and communication and selection are free. Ranks that share `places` (processors or GPUs)
 * take turns: then it is all ranks' work over the places, where that is more.
 */
export function modelSeconds(work: readonly Work[], ceilings: Ceilings, places: number): number {
  const seconds = work.map(
    ({ qkv, scores, attention, output, mlp }) =>
      (qkv + scores + output + mlp) / ceilings.linear + attention / ceilings.attention,
  );
  return Math.max(...seconds, sum(seconds) / places);
}

export const total = (work: readonly Work[]): number =>
  sum(work.flatMap((each): number[] => Object.values(each) as number[]));

const triangle = (rows: number) => (rows * (rows + 1)) / 2;
const causal = ({ start, end }: { start: number; end: number }) => triangle(end) - triangle(start);
