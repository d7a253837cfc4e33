import { expect, test } from 'vitest';
import { readModelShape } from '../../src/plan/model-shape.js';
import { ceilingsOf, modelSeconds, prefillWork, total, type ModelShape } from '../../src/plan/work.js';

/** Two layers, so one with attention. */
const shape: ModelShape = {
  layers: 2,
  hidden: 8,
  intermediate: 16,
  queryHeads: 2,
  keyValueHeads: 1,
  headDimension: 4,
  retainingHidden: 4,
};
const none = { start: 0, end: 0 };
const halves = {
  blocks: [
    { start: 0, end: 4 },
    { start: 4, end: 8 },
  ],
  mirrors: [none, none],
  anchorLength: 0,
  passing: [0, 0],
};

test('one rank: products by rows, attention by pairs, the last layer its keys and values alone', () => {
  const [work] = prefillWork(shape, 'full', { ...halves, blocks: [{ start: 0, end: 8 }], mirrors: [none] });
  expect(work).toEqual({
    qkv: 2 * 8 * 16 * (8 + 8),
    scores: 0,
    attention: 4 * 8 * 36,
    output: 2 * 8 * 8 * 8,
    mlp: 6 * 8 * 16 * 8,
  });
});

test('exact methods share the same work: in sum it is that of one rank, however it is cut', () => {
  const alone = total(
    prefillWork(shape, 'full', { ...halves, blocks: [{ start: 0, end: 8 }], mirrors: [none] }),
  );
  const zigzag = {
    ...halves,
    blocks: [
      { start: 0, end: 2 },
      { start: 2, end: 4 },
    ],
    mirrors: [
      { start: 6, end: 8 },
      { start: 4, end: 6 },
    ],
  };
  expect(total(prefillWork(shape, 'full', halves))).toBe(alone);
  expect(total(prefillWork(shape, 'ulysses', halves))).toBe(alone);
  const ring = prefillWork(shape, 'ring', zigzag);
  expect(total(ring)).toBe(alone);
  expect(ring[0]).toEqual(ring[1]);
});

test('apb: ranks behind the first compute the anchor, score it and see what is passed', () => {
  const [first, second] = prefillWork(shape, 'apb', { ...halves, anchorLength: 3, passing: [2, 2] });
  expect(first?.attention).toBe(4 * 8 * 10);
  expect(second?.attention).toBe(4 * 8 * (6 + 10 + 4 * (3 + 2)));
  expect(second?.mlp).toBe(6 * 8 * 16 * 7);
  expect(first?.scores).toBe(2 * 4 * (16 + 1) * 4);
});

test('the model of the time: at its ceilings, a layer takes what was measured; ranks that share a place take turns', () => {
  const ceilings = ceilingsOf({ ...shape, retainingHidden: 0 }, { rowSeconds: 1, pairSeconds: 2 });
  const row = 2 * 8 * 16 + 2 * 8 * 8 + 6 * 8 * 16;
  expect(ceilings).toEqual({ linear: 2 * row, attention: (2 * 4 * 8) / 2 });
  const one = { qkv: row, scores: 0, attention: 32, output: 0, mlp: 0 };
  expect(modelSeconds([one, one], ceilings, 2)).toBe(1.5);
  expect(modelSeconds([one, one], ceilings, 1)).toBe(3);
});

test("the demo model's shape is what its files say; a directory that is none is named", async () => {
  expect(await readModelShape('models/demo')).toEqual({
    layers: 8,
    hidden: 256,
    intermediate: 704,
    queryHeads: 4,
    keyValueHeads: 2,
    headDimension: 64,
    retainingHidden: 128,
  });
  await expect(readModelShape('/nowhere')).rejects.toThrow('/nowhere/config.json');
});
