import { defineConfig } from 'vitest/config';

// Quick projects first. The others start real processes and spend much of their time waiting for them.
const slow = { testTimeout: 180_000, hookTimeout: 120_000 };
// Half a minute each: by `make chaos`, as the whole kill matrix is.
const whole = process.env['MATRIX'] === 'whole';
const long = whole
  ? []
  : ['clock-jump', 'event-loop', 'redis-clock', 's3-writes', 'sentinel', 'eval-local'].map(
      (name) => `test/chaos/${name}.test.ts`,
    );
export default defineConfig({
  test: {
    // As many files at a time as two cores can take: tests have bounds of time.
    maxWorkers: 2,
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      { test: { name: 'integration', include: ['test/integration/**/*.test.ts'], ...slow } },
      { test: { name: 's3-suite', include: ['test/s3-suite/**/*.test.ts'], ...slow } },
      // One browser at a time, beside a cohort: no bound of time here is a promise, and what never comes is rare.
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 180_000,
        },
      },
      // By `make soak` alone.
      { test: { name: 'soak', include: ['test/soak/**/*.test.ts'] } },
      // By `make test-hosts` alone: it needs root.
      {
        test: {
          name: 'hosts',
          include: ['test/hosts/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 60_000,
        },
      },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'] } },
      {
        test: {
          name: 'chaos',
          include: ['test/chaos/**/*.test.ts'],
          exclude: long,
          ...slow,
          testTimeout: 300_000,
        },
      },
    ],
  },
});
