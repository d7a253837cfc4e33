import { expect, test } from 'vitest';
import { closest } from '../../src/producer/closest.js';
import { checkModel, resolveOptions, type ChosenOptions } from '../../src/producer/run-options.js';
import { queryRoom } from '../../src/text/question-groups.js';

const defaults = { anchor_per_block: 0.25, passing_per_block: 0.125 };
const sizes = { longestDocument: 30_000, longestQuery: 20, hasRetainingHeads: true };
const plain = { anchor: null, passing: 0, ring_layout: null, blocks: 'even', select: null };
const resolve = (chosen: Partial<ChosenOptions>, s = sizes) =>
  resolveOptions({ method: 'apb', ranks: 4, ...chosen }, defaults, s);

test('defaults follow the longest document, in multiples of 16', () => {
  const apb = { ...plain, method: 'apb', ranks: 4, select: 'heads', anchor_query: 'all' };
  expect(resolve({})).toEqual({ ...apb, anchor: 1888, passing: 944 });
  expect(resolve({ anchor: 100, passing: 0 })).toEqual({ ...apb, anchor: 100 });
  expect(resolve({ anchor: 0 }).anchor).toBe(0);
});

test('a default anchor takes the longest query', () => {
  for (const longestQuery of [1, 15, 16, 17, 33, 500]) {
    const options = resolve({}, { ...sizes, longestDocument: 100, longestQuery });
    expect(queryRoom(options)).toBeGreaterThanOrEqual(longestQuery);
  }
});

test('an anchor without queries need not hold one, and is not what spava selects by', () => {
  const long = { ...sizes, longestDocument: 100, longestQuery: 500 };
  expect(resolve({ anchorQuery: 'none' }, long)).toMatchObject({ anchor: 32, anchor_query: 'none' });
  expect(queryRoom(resolve({ anchorQuery: 'none' }, long))).toBe(Infinity);
  expect(resolve({ anchorQuery: 'one' }).anchor_query).toBe('one');
  expect(() => resolve({ method: 'star', anchorQuery: 'none' })).toThrow('--anchor-query none belongs to');
});

test('other methods pass nothing', () => {
  expect(resolve({ method: 'full' })).toEqual({ ...plain, method: 'full', ranks: 4 });
  expect(resolve({ method: 'ulysses' })).toEqual({ ...plain, method: 'ulysses', ranks: 4 });
  expect(resolve({ method: 'star' })).toEqual({ ...plain, method: 'star', ranks: 4 });
  expect(resolve({ method: 'star', anchor: 64 }).anchor).toBe(64);
});

test('options that contradict the method or their range are refused', () => {
  expect(() => resolve({ method: 'star', passing: 5 })).toThrow('--passing 5 belongs to --method apb');
  expect(() => resolve({ method: 'full', anchor: 5 })).toThrow('--anchor 5 belongs to');
  expect(() => resolve({ ranks: 65 })).toThrow('--ranks 65 must be a whole number from 1 to 64');
  expect(() => resolve({ anchor: -1 })).toThrow('--anchor -1');
});

test('a ring is zigzag, unless its blocks are balanced or a layout is named', () => {
  const layout = (chosen: Partial<ChosenOptions>) => resolve({ method: 'ring', ...chosen }).ring_layout;
  expect(layout({})).toBe('zigzag');
  expect(layout({ ringLayout: 'contiguous' })).toBe('contiguous');
  expect(layout({ blocks: 'balanced' })).toBe('contiguous');
  expect(() => layout({ blocks: 'balanced', ringLayout: 'zigzag' })).toThrow('balances the ranks by itself');
  expect(() => resolve({ ringLayout: 'zigzag' })).toThrow('--ring-layout zigzag belongs to --method ring');
});

test('blocks are even unless balanced ones are asked for', () => {
  expect(resolve({}).blocks).toBe('even');
  expect(resolve({ blocks: 'balanced' }).blocks).toBe('balanced');
  expect(resolve({ method: 'star', blocks: 'balanced', anchor: 64 }).blocks).toBe('balanced');
  expect(() => resolve({ method: 'star', blocks: 'balanced' })).toThrow('needs an --anchor');
});

test('a model without retaining heads selects by the query, and never silently by anything else', () => {
  const none = { ...sizes, hasRetainingHeads: false };
  expect(resolve({}).select).toBe('heads');
  expect(resolve({}, none).select).toBe('spava');
  expect(resolve({ select: 'random' }, none).select).toBe('random');
  expect(() => resolve({ method: 'star', select: 'spava' })).toThrow(
    '--select spava belongs to --method apb',
  );

  const check =
    (chosen: Partial<ChosenOptions>, hasRetainingHeads = false, queryHeads = 12) =>
    () =>
      checkModel({ method: 'apb', ranks: 4, ...chosen }, { queryHeads, hasRetainingHeads });
  expect(check({ select: 'heads' })).toThrow('use --select spava');
  expect(check({ select: 'heads' }, true)).not.toThrow();
  expect(check({ anchor: 0 })).toThrow('takes the query from the anchor');
  expect(check({ anchor: 0, select: 'spava' }, true)).toThrow('takes the query from the anchor');
  expect(check({ anchor: 0, passing: 0 })).not.toThrow();
  expect(check({ anchor: 0 }, true)).not.toThrow();
  expect(check({ anchorQuery: 'none' })).toThrow('--anchor-query is none; leave it out, or give --passing 0');
  expect(check({ anchorQuery: 'none', passing: 0 })).not.toThrow();
  expect(check({ anchorQuery: 'none' }, true)).not.toThrow();
});

test('ranks that do not divide the query heads are no ulysses', () => {
  const check = (ranks: number) => () =>
    checkModel({ method: 'ulysses', ranks }, { queryHeads: 12, hasRetainingHeads: false });
  for (const ranks of [1, 2, 3, 4, 6, 12]) expect(check(ranks)).not.toThrow();
  expect(check(5)).toThrow("5 ranks do not divide the model's 12; use a number of ranks that does");
  expect(check(24)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
});

test('hints name what was meant and nothing far-fetched', () => {
  const fields = ['custom_id', 'document', 'question', 'questions', 'max_tokens', 'seed'];
  expect(closest('customId', fields)).toBe('custom_id');
  expect(closest('Question', fields)).toBe('question');
  expect(closest('qestions', fields)).toBe('questions');
  expect(closest('sed', fields)).toBe('seed');
  expect(closest('temperature', fields)).toBeUndefined();
  expect(closest('x'.repeat(100_000), fields)).toBeUndefined();
});
