import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RunOptions } from '../../src/contracts/request.js';
import { groupQuestions, queryRoom } from '../../src/text/question-groups.js';

const apb = (anchor: number | null, ranks = 4): RunOptions => ({
  method: 'apb',
  ranks,
  anchor,
  passing: 0,
  ring_layout: null,
  blocks: 'even',
  select: 'heads',
});
const queries = (...lengths: number[]) => lengths.map((length) => ({ length }));

test('half of the anchor, and at least 16 tokens of document in it', () => {
  expect(queryRoom(apb(256))).toBe(128);
  expect(queryRoom(apb(20))).toBe(4);
  expect(queryRoom(apb(8))).toBe(0);
});

test('one group where anchors carry no query', () => {
  for (const options of [
    apb(0),
    apb(64, 1),
    { ...apb(64), method: 'full' as const },
    { ...apb(null), method: 'star' as const },
    { ...apb(64), anchor_query: 'none' as const },
    { ...apb(64, 1), anchor_query: 'one' as const },
  ]) {
    expect(groupQuestions(queries(100, 200, 300), options)).toEqual([[0, 1, 2]]);
  }
});

test('a group for each question where an anchor carries one', () => {
  const options = { ...apb(256), anchor_query: 'one' as const };
  expect(groupQuestions(queries(10, 20, 30), options)).toEqual([[0], [1], [2]]);
});

test('no question lost, order kept, room kept, no needless group', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 60 })),
      fc.integer({ min: 32, max: 300 }),
      (lengths, anchor) => {
        const groups = groupQuestions(queries(...lengths), apb(anchor));
        expect(groups.flat()).toEqual(lengths.map((_, i) => i));
        const room = queryRoom(apb(anchor));
        const size = (group: number[]) => group.reduce((sum, i) => sum + (lengths[i] ?? 0), 0);
        groups.forEach((group, g) => {
          expect(group.length === 1 || size(group) <= room).toBe(true);
          const next = groups[g + 1]?.[0];
          if (next !== undefined) expect(size(group) + (lengths[next] ?? 0)).toBeGreaterThan(room);
        });
      },
    ),
  );
});
