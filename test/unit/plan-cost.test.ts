import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planLayout } from '../../src/gpu-worker/engine/engine.js';
import { evenBlocks } from '../../src/plan/blocks.js';
import { predictSeconds, sharesOf, type Way } from '../../src/plan/cost.js';
import { facts, plain } from './plan-support.js';

const ways = (ranks: number, tokens: number): Way[] => [
  plain('full', ranks),
  { ...plain('full', ranks), blocks: 'balanced' },
  { ...plain('ring', ranks), ring_layout: 'zigzag' },
  { ...plain('ring', ranks), ring_layout: 'contiguous' },
  plain('ulysses', ranks),
  plain('star', ranks),
  { ...plain('apb', ranks), anchor: Math.ceil(tokens / ranks / 4), passing: Math.ceil(tokens / ranks / 8) },
];
const anyRanks = fc.integer({ min: 1, max: 9 });
const anyTokens = fc.integer({ min: 1, max: 200_000 });

test('shares are what the engine lays out', () => {
  fc.assert(
    fc.property(anyRanks, anyTokens, fc.nat(6), (ranks, tokens, at) => {
      const way = ways(ranks, tokens)[at] as Way;
      const layout = planLayout({
        method: way.method,
        ranks,
        documentTokens: tokens,
        queryTokens: 0,
        queryPosition: 0,
        anchorLength: way.anchor,
        passingLength: way.passing,
        ringLayout: way.ring_layout ?? 'contiguous',
      });
      const { blocks, mirrors, anchorLength, passing } = layout;
      const shares = sharesOf(way, evenBlocks(tokens, ranks));
      expect(shares.blocks).toEqual(blocks);
      expect(shares.anchorLength).toBe(ranks === 1 ? 0 : anchorLength);
      expect(shares.passing).toEqual(passing);
      const rows = (pieces: readonly { start: number; end: number }[]) =>
        pieces.map(({ start, end }) => end - start);
      expect(rows(shares.mirrors)).toEqual(rows(mirrors));
    }),
  );
});

describe('predicted seconds', () => {
  test('a longer document takes longer', () => {
    fc.assert(
      fc.property(
        anyRanks,
        anyTokens,
        fc.nat(6),
        fc.double({ min: 1.1, max: 4, noNaN: true }),
        (...given) => {
          const [ranks, tokens, at, times] = given;
          // Blocks are multiples of 16.
          const longer = Math.ceil(tokens * times) + 32 * ranks;
          const seconds = (length: number) => predictSeconds(facts(), ways(ranks, length)[at] as Way, length);
          expect(seconds(longer)).toBeGreaterThan(seconds(tokens));
        },
      ),
    );
  });

  test('one rank: its products, and half of the square of its tokens', () => {
    const { shape, speeds } = facts();
    const seconds = predictSeconds(facts(), plain('full', 1), 1000);
    // Seven layers whole, of the eighth the keys and values; 4 heads of 64, 2 of keys, an MLP of 704.
    const row = 2 * 256 * 512 * 8 + (2 * 256 * 256 + 6 * 256 * 704) * 7;
    const pairs = 4 * 256 * 7 * ((1000 * 1001) / 2);
    expect(shape.layers).toBe(8);
    expect(seconds).toBeCloseTo(1000 * row * speeds.linear.alone + pairs * speeds.attention.alone, 10);
  });

  test('what is received costs: of full all other blocks, of apb the passing blocks', () => {
    const slow = facts({ received: 1e-3 });
    const layers = 7;
    const keysAndValues = 2 * 2 * 64;
    const more = (way: Way) => predictSeconds(slow, way, 8000) - predictSeconds(facts(), way, 8000);
    expect(more(plain('full', 4))).toBeCloseTo(6000 * keysAndValues * layers * 1e-3, 4);
    const apb = { ...plain('apb', 4), anchor: 512, passing: 256 };
    expect(more(apb)).toBeCloseTo(3 * 256 * keysAndValues * layers * 1e-3, 4); // the last rank passes nothing on
    expect(more({ ...plain('star', 4), anchor: 512 })).toBe(0);
  });

  test('ranks that share places take turns', () => {
    const way = plain('ulysses', 4);
    const own = predictSeconds(facts(), way, 8000);
    expect(predictSeconds(facts({ places: 4 }), way, 8000)).toBeCloseTo(own, 12);
    expect(predictSeconds(facts({ places: 2 }), way, 8000)).toBeCloseTo(2 * own, 12);
  });
});
