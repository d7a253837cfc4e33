import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  capabilities,
  EngineError,
  planLayout,
  type LayoutOptions,
} from '../../src/gpu-worker/engine/engine.js';
import { VERSION } from '../../src/platform/version.js';

const apb: LayoutOptions = {
  method: 'apb',
  ranks: 3,
  documentTokens: 100,
  queryTokens: 5,
  anchorLength: 30,
  passingLength: 8,
};

const nothing = { start: 0, end: 0 };

test('a zigzag layout: each rank holds a chunk from the front and its mirror from the end', () => {
  const layout = planLayout({
    method: 'ring',
    ringLayout: 'zigzag',
    ranks: 2,
    documentTokens: 10,
    queryTokens: 5,
    passingLength: 0,
  });
  expect(layout.blocks).toEqual([
    { start: 0, end: 3 },
    { start: 3, end: 6 },
  ]);
  expect(layout.mirrors).toEqual([
    { start: 8, end: 10 },
    { start: 6, end: 8 },
  ]);
});

test('an apb layout: even blocks, the query inside the anchor, nothing passed on by the last rank', () => {
  expect(planLayout(apb)).toEqual({
    blocks: [
      { start: 0, end: 34 },
      { start: 34, end: 67 },
      { start: 67, end: 100 },
    ],
    mirrors: [nothing, nothing, nothing],
    anchorDocument: 25,
    anchorQueryAt: 16,
    anchorLength: 30,
    passing: [8, 8, 0],
  });
});

test('a star layout takes the length of block 0 for the anchor; a full one has none', () => {
  const star = planLayout({ ...apb, method: 'star', anchorLength: null, blocks: [50, 20, 30] });
  expect([star.anchorLength, star.anchorDocument, star.passing]).toEqual([50, 50, [0, 0, 0]]);
  expect(planLayout({ ...apb, method: 'full' }).anchorLength).toBe(0);
});

test('blocks cover the document in order, whatever the sizes', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.integer({ min: 0, max: 2_000_000 }),
      (ranks, documentTokens) => {
        const { blocks } = planLayout({ ...apb, ranks, documentTokens });
        expect(blocks).toHaveLength(ranks);
        let at = 0;
        for (const { start, end } of blocks) {
          expect(start).toBe(at);
          expect(end).toBeGreaterThanOrEqual(start);
          at = end;
        }
        expect(at).toBe(documentTokens);
      },
    ),
  );
});

const code = 'ENGINE_INVALID_ARGUMENT';
test.each<[string, unknown, string, string]>([
  ['an anchor too short for the query', { ...apb, anchorLength: 20 }, code, 'anchor_length is 20'],
  ['apb without an anchor length', { ...apb, anchorLength: undefined }, code, 'anchor_length is not set'],
  ['blocks that do not add up', { ...apb, blocks: [50, 20, 29] }, code, 'blocks'],
  ['a negative length', { ...apb, passingLength: -1 }, code, 'passing_length is -1'],
  ['no ranks', { ...apb, ranks: 0 }, code, 'ranks is 0'],
  ['an unknown method', { ...apb, method: 'tree' }, code, "method is 'tree'"],
  ['a string for a number', { ...apb, ranks: '3' }, code, 'planLayout: ranks must be an integer'],
  ['a fraction', { ...apb, documentTokens: 1.5 }, code, 'planLayout: documentTokens must be an integer'],
  ['NaN', { ...apb, documentTokens: NaN }, code, 'planLayout: documentTokens must be an integer'],
  ['no options', undefined, code, 'planLayout needs an object of options'],
])('%s is refused by field, with a typed error', (_, options, expected, message) => {
  let error: unknown;
  try {
    planLayout(options as LayoutOptions);
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(EngineError);
  expect((error as EngineError).code).toBe(expected);
  expect((error as EngineError).message).toContain(message);
});

test('capabilities name what this build has, and what it lacks', () => {
  const { backends, isa, threads, cuda, version } = capabilities();
  expect(backends).toContain('cpu');
  expect(['portable', 'avx2', 'avx512']).toContain(isa);
  expect(threads).toBeGreaterThan(0);
  expect(version).toBe(VERSION);
  expect(cuda.available).toBe(backends.includes('cuda'));
  expect(cuda.missing.length > 0).toBe(!cuda.available);
});
