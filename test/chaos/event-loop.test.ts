/** A rank whose event loop is blocked for longer than its lease and heartbeat: unlike a stopped process, its engine goes on. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tempDir } from '../support/services.js';
import { documentOf, full, texts, until, useBench } from './cohort-support.js';

const BLOCKED_MS = 5_000;
/** Loaded before everything else of a rank: SIGUSR2 blocks it. */
const PRELOAD = `
process.on('SIGUSR2', () => {
  const end = performance.now() + ${BLOCKED_MS};
  while (performance.now() < end);
});`;

const file = useBench(40);
let folder: string;
beforeAll(async () => {
  folder = await tempDir('longhaul-event-loop-');
  writeFileSync(join(folder, 'preload.cjs'), PRELOAD);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it.each([0, 1])('rank %i: a later epoch answers, as an undisturbed run does', async (rank) => {
  const { bench } = file;
  const { lock, heartbeatExpiry } = bench.config.timings;
  expect(BLOCKED_MS).toBeGreaterThan(Math.max(lock, heartbeatExpiry));
  bench.environment = { NODE_OPTIONS: `--require ${join(folder, 'preload.cjs')}` };
  const item = { document: documentOf(64), questions: [[20, 31, 42]], maxTokens: 1_500 };
  const cohort = bench.cohort(2);
  await bench.ready('c2');
  const id = await bench.submit(full(2), [item]);
  await bench.reached(id, 'decode');
  cohort.kill(rank, 'SIGUSR2');
  await until('the cohort is lost', 30_000, () => Promise.resolve(cohort.starts > 1));
  const result = await bench.answered(id);
  expect(result.execution.epoch).toBeGreaterThan(1);
  // What an undisturbed run says.
  const again = await bench.submit(full(2), [item]);
  expect(texts(await bench.answered(again))).toEqual(texts(result));
  await bench.ready('c2');
});
