import { expect, test } from 'vitest';
import { bootstrap, interval, mcnemar, wilson } from '../../src/eval/intervals.js';
import { score } from '../../src/eval/scoring.js';

test('all: the share of expected strings in the answer, without regard to case', () => {
  expect(score('all', 'ONE, two.', ['one', 'two', 'three', 'four'])).toBe(0.5);
});

test('substring: any of them is enough', () => {
  expect(score('substring', 'It was Paris.', ['paris', 'Lutetia'])).toBe(1);
  expect(score('substring', 'It was Rome.', ['paris'])).toBe(0);
});

test('exact: in normal form, nothing more', () => {
  expect(score('exact', 'The Grey  Tower.', ['grey tower'])).toBe(1);
  expect(score('exact', 'grey tower hall', ['grey tower'])).toBe(0);
});

test('f1: words counted as often as they stand, the best of the expected', () => {
  expect(score('f1', 'red red fox', ['red fox', 'cat'])).toBeCloseTo(0.8);
  expect(score('f1', '', ['fox'])).toBe(0);
});

test("Wilson's interval by its published example, 81 of 263", () => {
  const { low, high } = wilson(81, 263);
  expect(low).toBeCloseTo(0.2553, 4);
  expect(high).toBeCloseTo(0.3662, 4);
});

test('scores that all agree still have a width; fractions get a bootstrap interval that repeats', () => {
  expect(interval([1, 1, 1, 1]).low).toBeCloseTo(0.51, 2);
  const scores = [0.25, 0.5, 1, 0, 0.75, 0.5];
  const once = bootstrap(scores);
  expect(bootstrap(scores)).toEqual(once);
  expect(once.low).toBeLessThan(0.5);
  expect(once.high).toBeGreaterThan(0.5);
});

test('exact McNemar: two-sided binomial of the documents that differ', () => {
  expect(mcnemar(0, 0)).toBe(1);
  expect(mcnemar(1, 9)).toBeCloseTo(22 / 1024);
  expect(mcnemar(13, 1)).toBeCloseTo(0.0018, 4);
});
