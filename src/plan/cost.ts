/**
 * How long a prefill will take, from shapes and measured speeds; pure. A rank's seconds are its products and its
 * attention, each at its own speed, and what it receives from other ranks; the slowest rank decides.
 */
import type { RunOptions } from '../contracts/request.js';
import { evenBlocks, planBlocks, type Rates } from './blocks.js';
import { prefillWork, type ModelShape, type Shares } from './work.js';
import { sum } from './sum.js';

/** What can be chosen about a prefill. */
export type Way = Pick<RunOptions, 'method' | 'ranks' | 'ring_layout' | 'blocks' | 'anchor' | 'passing'>;

/** Ways whose attention and communication run at the same speeds. `alone` is one rank; star runs as apb does. */
export const KINDS = ['alone', 'full', 'ring', 'ulysses', 'apb'] as const;
export type Kind = (typeof KINDS)[number];

/** Of one rank, by kind. */
export interface Speeds {
  /** Seconds per FLOP of linear layers and retaining heads. */
  linear: Readonly<Record<Kind, number>>;
  /** Seconds per FLOP of attention. */
  attention: Readonly<Record<Kind, number>>;
  /** Seconds per value that is received from another rank. */
  received: Readonly<Record<Kind, number>>;
  /** As a cohort measures them, to balance its blocks. */
  rates: Rates;
}

/** What one rank does in a prefill, all layers together. */
export interface Effort {
  /** FLOPs of linear layers and retaining heads. */
  linear: number;
  /** FLOPs. */
  attention: number;
  /** Values that come from other ranks. */
  received: number;
}

export function kindOf({ method, ranks }: Way): Kind {
  if (ranks === 1) return 'alone';
  return method === 'star' ? 'apb' : method;
}

/**
 * Seconds of a prefill of `tokens` tokens. Ranks that share `places` (processors by threads; a GPU is one) take
 * turns: then it is all ranks' work over the places, where that is more.
 */
export function predictSeconds(
  { shape, speeds, places }: { shape: ModelShape; speeds: Speeds; places: number },
  way: Way,
  tokens: number,
): number {
  const kind = kindOf(way);
  const rates = Array.from({ length: way.ranks }, () => speeds.rates);
  const blocks = way.blocks === 'even' ? evenBlocks(tokens, way.ranks) : planBlocks(way, tokens, rates);
  const seconds = efforts(shape, way, blocks).map(
    ({ linear, attention, received }) =>
      linear * speeds.linear[kind] + attention * speeds.attention[kind] + received * speeds.received[kind],
  );
  return Math.max(...seconds, sum(seconds) / places);
}

/** Of each rank, with blocks of these lengths; a ring in zigzag takes their sum. */
export function efforts(shape: ModelShape, way: Way, blocks: readonly number[]): Effort[] {
  const shares = sharesOf(way, blocks);
  const received = receivedValues(shape, way, shares);
  return prefillWork(shape, way.method, shares).map(({ qkv, scores, attention, output, mlp }, rank) => ({
    linear: qkv + scores + output + mlp,
    attention,
    received: received[rank] as number,
  }));
}

/** As the engine lays it out (native/engine/layout.cpp), with the query's rows counted as the document's. */
export function sharesOf(way: Way, blocks: readonly number[]): Shares {
  const { method, ranks, anchor, passing, ring_layout } = way;
  const tokens = sum(blocks);
  if (ring_layout === 'zigzag' && ranks > 1) {
    const pieces = piecesOf(evenBlocks(tokens, 2 * ranks));
    return {
      blocks: pieces.slice(0, ranks),
      mirrors: pieces.slice(ranks).reverse(),
      anchorLength: 0,
      passing: blocks.map(() => 0),
    };
  }
  const anchorLength =
    ranks === 1 || (method !== 'apb' && method !== 'star')
      ? 0
      : Math.min(anchor ?? (blocks[0] as number), tokens);
  return {
    blocks: piecesOf(blocks),
    mirrors: blocks.map(() => ({ start: 0, end: 0 })),
    anchorLength,
    // The last rank passes nothing on, and the first not what is in the receivers' anchor.
    passing: blocks.map((rows, rank) =>
      method !== 'apb' || rank === ranks - 1
        ? 0
        : Math.min(passing, rows - (rank === 0 ? Math.min(anchorLength, rows) : 0)),
    ),
  };
}

function piecesOf(lengths: readonly number[]): { start: number; end: number }[] {
  let at = 0;
  return lengths.map((length) => ({ start: at, end: (at += length) }));
}

/** The last layer's attention, and what is exchanged for it, is left out. */
function receivedValues(shape: ModelShape, { method, ranks }: Way, shares: Shares): number[] {
  const keysAndValues = 2 * shape.keyValueHeads * shape.headDimension;
  const queries = shape.queryHeads * shape.headDimension;
  const rows = shares.blocks.map(({ start, end }, rank) => {
    const mirror = shares.mirrors[rank] ?? { start: 0, end: 0 };
    return end - start + mirror.end - mirror.start;
  });
  const tokens = sum(rows);
  const passed = sum(shares.passing);
  const perLayer = rows.map((own, rank) => {
    switch (method) {
      case 'full':
      case 'ring':
        return (tokens - own) * keysAndValues;
      case 'ulysses':
        // Other ranks' rows of its heads; then its rows of other ranks' heads.
        return ((tokens - own) * (queries + keysAndValues)) / ranks + (own * queries * (ranks - 1)) / ranks;
      case 'apb':
        return (passed - (shares.passing[rank] as number)) * keysAndValues;
      case 'star':
        return 0;
    }
  });
  return perLayer.map((values) => values * (shape.layers - 1));
}
