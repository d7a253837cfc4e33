import { defineConfig } from 'vitest/config';

// Five projects, quick ones first; the others start real processes, so their files run one at a time.
const slow = { fileParallelism: false, testTimeout: 120_000, hookTimeout: 60_000 };
export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      { test: { name: 'integration', include: ['test/integration/**/*.test.ts'], ...slow } },
      { test: { name: 's3-suite', include: ['test/s3-suite/**/*.test.ts'], ...slow } },
      { test: { name: 'chaos', include: ['test/chaos/**/*.test.ts'], ...slow, testTimeout: 180_000 } },
    ],
  },
});
