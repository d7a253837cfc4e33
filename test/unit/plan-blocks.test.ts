import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { costs, evenBlocks, planBlocks, type PlanOptions, type Rates } from '../../src/plan/blocks.js';

const rates: Rates = { rowSeconds: 1.5e-4, pairSeconds: 1e-7 };
const same = (ranks: number, own = rates) => Array.from({ length: ranks }, () => own);
const apb = (ranks: number, anchor: number, passing: number): PlanOptions => ({
  method: 'apb',
  ranks,
  anchor,
  passing,
});
const full = (ranks: number): PlanOptions => ({ method: 'full', ranks, anchor: null, passing: 0 });
const sum = (lengths: number[]) => lengths.reduce((a, b) => a + b, 0);

/** Seconds of each rank under a plan. */
function seconds(options: PlanOptions, blocks: number[], own: Rates[]): number[] {
  const cost = costs(options, sum(blocks), own);
  let start = 0;
  return blocks.map((rows, rank) => {
    start += rows;
    return cost(rank, rows, start - rows);
  });
}
const spread = (values: number[]) => Math.max(...values) / Math.min(...values);

describe('apb', () => {
  test('the first rank, which has no anchor and receives nothing, takes most; the last takes least', () => {
    const blocks = planBlocks(apb(4, 1024, 512), 32_768, same(4));
    expect(blocks).toEqual([...blocks].sort((a, b) => b - a));
    expect(blocks[0]).toBeGreaterThan(8192 + 500);
    expect(blocks[3]).toBeLessThan(8192 - 300);
  });

  test('all ranks take equally long, where even blocks let them wait for the last', () => {
    const options = apb(4, 1024, 512);
    expect(spread(seconds(options, planBlocks(options, 32_768, same(4)), same(4)))).toBeLessThan(1.01);
    expect(spread(seconds(options, evenBlocks(32_768, 4), same(4)))).toBeGreaterThan(1.3);
  });

  test('no block is below l_p, also where balance would ask for it', () => {
    const blocks = planBlocks(apb(4, 2000, 600), 4000, same(4));
    expect(Math.min(...blocks)).toBeGreaterThanOrEqual(600);
    expect(sum(blocks)).toBe(4000);
  });

  test('a rank that is three times slower gets a smaller block', () => {
    const slow = { rowSeconds: 3 * rates.rowSeconds, pairSeconds: 3 * rates.pairSeconds };
    const own = [rates, slow, rates, rates];
    const blocks = planBlocks(apb(4, 512, 256), 32_768, own);
    expect(blocks[1]).toBeLessThan(0.6 * (blocks[2] as number));
    expect(spread(seconds(apb(4, 512, 256), blocks, own))).toBeLessThan(1.02);
  });
});

test('full: later blocks see more keys and are shorter; without attention they are even', () => {
  const blocks = planBlocks(full(4), 32_768, same(4));
  expect(blocks).toEqual([...blocks].sort((a, b) => b - a));
  expect(spread(seconds(full(4), blocks, same(4)))).toBeLessThan(1.01);
  expect(planBlocks(full(4), 32_768, same(4, { rowSeconds: 1, pairSeconds: 0 }))).toEqual(
    evenBlocks(32_768, 4),
  );
});

test('ulysses divides attention by heads: even blocks, unless ranks differ in speed', () => {
  const ulysses: PlanOptions = { method: 'ulysses', ranks: 2, anchor: null, passing: 0 };
  expect(planBlocks(ulysses, 4096, same(2))).toEqual([2048, 2048]);
  const [fast, slow] = planBlocks(ulysses, 4096, [rates, { ...rates, rowSeconds: 2 * rates.rowSeconds }]);
  expect(fast).toBeGreaterThan(slow as number);
});

test('measurements that differ by less than a quarter are taken for the same', () => {
  const noisy = [1, 1.15, 0.9, 1.05].map((x) => ({
    rowSeconds: x * rates.rowSeconds,
    pairSeconds: (2 - x) * rates.pairSeconds,
  }));
  const blocks = planBlocks(full(4), 8192, noisy);
  expect(blocks).toEqual([...blocks].sort((a, b) => b - a));
});

test('documents too short for a passing block per rank are cut evenly', () => {
  for (const tokens of [0, 1, 5, 63])
    expect(planBlocks(full(4), tokens, same(4))).toEqual(evenBlocks(tokens, 4));
  expect(planBlocks(apb(2, 64, 100), 200, same(2))).toEqual([100, 100]);
  expect(planBlocks(full(1), 100, same(1))).toEqual([100]);
});

test('rates of another number of ranks are a defect', () => {
  expect(() => planBlocks(full(2), 100, same(3))).toThrow('3 rates were given for 2 ranks');
});

test('any plan sums up, is made of multiples of 16 but for its end, and keeps to the least length', () => {
  const rate = fc.double({ min: 1e-9, max: 1e-2, noNaN: true });
  const anyRates = fc.record({ rowSeconds: rate, pairSeconds: rate });
  fc.assert(
    fc.property(
      fc.constantFrom<PlanOptions['method']>('full', 'ring', 'ulysses', 'star', 'apb'),
      fc.array(anyRates, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 1_000_000 }),
      fc.integer({ min: 0, max: 5000 }),
      fc.integer({ min: 0, max: 3000 }),
      (method, own, tokens, anchor, passing) => {
        const options = { method, ranks: own.length, anchor, passing };
        const blocks = planBlocks(options, tokens, own);
        expect(blocks).toHaveLength(own.length);
        expect(sum(blocks)).toBe(tokens);
        const least = Math.max(16, passing);
        if (tokens < own.length * (least + 15)) return;
        expect(Math.min(...blocks)).toBeGreaterThanOrEqual(least);
        for (const block of blocks.slice(0, -1)) expect(block % 16).toBe(0);
      },
    ),
    { numRuns: 80 },
  );
});
