/** What so few documents can show: intervals of scores, and of differences on the same documents. */
import { Random } from '../platform/random.js';

export interface Interval {
  low: number;
  mean: number;
  high: number;
}

const RESAMPLES = 2000;

/** 95% interval of Wilson for `right` of `total`. */
export function wilson(right: number, total: number): Interval {
  const z = 1.959964;
  const p = right / total;
  const centre = (p + (z * z) / (2 * total)) / (1 + (z * z) / total);
  const half = (z * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total))) / (1 + (z * z) / total);
  return { low: Math.max(0, centre - half), mean: p, high: Math.min(1, centre + half) };
}

/** Mean of scores with a 95% bootstrap interval over documents; seeded, so that a report repeats. */
export function bootstrap(values: readonly number[]): Interval {
  const random = new Random(1);
  const means = Array.from({ length: RESAMPLES }, () =>
    mean(values.map(() => values[random.below(values.length)] ?? 0)),
  ).sort((a, b) => a - b);
  return {
    low: means[Math.floor(0.025 * RESAMPLES)] ?? NaN,
    mean: mean(values),
    high: means[Math.ceil(0.975 * RESAMPLES) - 1] ?? NaN,
  };
}

/** Scores that are all 0 or 1 have Wilson's interval, which is honest also where all are equal. */
export function interval(values: readonly number[]): Interval {
  return values.every((value) => value === 0 || value === 1)
    ? wilson(values.filter((value) => value === 1).length, values.length)
    : bootstrap(values);
}

/** Exact two-sided McNemar test: of the documents that the methods score differently, how many favour each. */
export function mcnemar(better: number, worse: number): number {
  const n = better + worse;
  let tail = 0;
  let term = 0.5 ** n;
  for (let k = 0; k <= Math.min(better, worse); k++) {
    tail += term;
    term *= (n - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
