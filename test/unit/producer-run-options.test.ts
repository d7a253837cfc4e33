import { expect, test } from 'vitest';
import { closest } from '../../src/producer/closest.js';
import { resolveOptions, type ChosenOptions } from '../../src/producer/run-options.js';
import { queryRoom } from '../../src/text/question-groups.js';

const defaults = { anchor_per_block: 0.25, passing_per_block: 0.125 };
const sizes = { longestDocument: 30_000, longestQuery: 20 };
const resolve = (chosen: Partial<ChosenOptions>, s = sizes) =>
  resolveOptions({ method: 'apb', ranks: 4, ...chosen }, defaults, s);

test('defaults follow the longest document, in multiples of 16', () => {
  expect(resolve({})).toEqual({ method: 'apb', ranks: 4, anchor: 1888, passing: 944 });
  expect(resolve({ anchor: 100, passing: 0 })).toEqual({ method: 'apb', ranks: 4, anchor: 100, passing: 0 });
  expect(resolve({ anchor: 0 }).anchor).toBe(0);
});

test('a default anchor takes the longest query', () => {
  for (const longestQuery of [1, 15, 16, 17, 33, 500]) {
    const options = resolve({}, { longestDocument: 100, longestQuery });
    expect(queryRoom(options)).toBeGreaterThanOrEqual(longestQuery);
  }
});

test('other methods pass nothing', () => {
  expect(resolve({ method: 'full' })).toEqual({ method: 'full', ranks: 4, anchor: null, passing: 0 });
  expect(resolve({ method: 'star' })).toEqual({ method: 'star', ranks: 4, anchor: null, passing: 0 });
  expect(resolve({ method: 'star', anchor: 64 }).anchor).toBe(64);
});

test('options that contradict the method or their range are refused', () => {
  expect(() => resolve({ method: 'star', passing: 5 })).toThrow('--passing 5 belongs to --method apb');
  expect(() => resolve({ method: 'full', anchor: 5 })).toThrow('--anchor 5 belongs to');
  expect(() => resolve({ ranks: 65 })).toThrow('--ranks 65 must be a whole number from 1 to 64');
  expect(() => resolve({ anchor: -1 })).toThrow('--anchor -1');
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
