/** `longhaul eval ruler` through a real queue: a cohort of two ranks with the demo model, and an aggregator. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { runAggregator } from '../../src/aggregator/aggregator.js';
import { evalCommand } from '../../src/cli/eval.js';
import { createLogger } from '../../src/platform/logger.js';
import { Bench } from '../chaos/cohort-support.js';
import { startRedis, startS3, tempDir, trackLeaks } from '../support/services.js';

trackLeaks();
const modelDir = resolve('models/demo');
let directory: string;
let bench: Bench;
let stop: () => Promise<void>;

beforeAll(async () => {
  directory = await tempDir('longhaul-eval-');
  const [redis, s3] = await Promise.all([startRedis(), startS3()]);
  const close = async () => void (await Promise.all([redis.stop(), s3.stop()]));
  bench = new Bench({ redis, s3, modelDir });
  const settings = { ...s3.settings, redisUrl: redis.url, modelDir, ranks: 2, profile: 'fast' };
  await writeFile(join(directory, 'config.json'), JSON.stringify(settings));
  const ended = new AbortController();
  const aggregator = runAggregator(bench.config, createLogger('aggregator', bench.config), ended.signal);
  bench.cohort(2);
  stop = async () => {
    ended.abort();
    await aggregator;
    await bench.close();
    await close();
  };
}, 60_000);
afterAll(async () => {
  await stop?.();
  await rm(directory, { recursive: true, force: true });
}, 60_000);
afterEach(() => void vi.restoreAllMocks());

interface Report {
  methods: {
    variant: string;
    batches: Record<string, string>;
    results: Record<string, { score: number; prefillSeconds: number }>;
  }[];
}

/** Runs the command in this process; what it wrote to stderr. */
async function evaluate(): Promise<{ stderr: string; report: Report }> {
  let stderr = '';
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  const out = join(directory, 'out');
  const flags = [
    '--tasks',
    'niah_single_2',
    '--tokens',
    '512',
    '--documents',
    '2',
    '--methods',
    'full,apb:passing=0',
  ];
  await new Command('longhaul')
    .option('--config <file>')
    .addCommand(evalCommand())
    .parseAsync(['--config', join(directory, 'config.json'), 'eval', 'ruler', '--out', out, ...flags], {
      from: 'user',
    });
  vi.restoreAllMocks();
  return { stderr, report: JSON.parse(await readFile(join(out, 'report.json'), 'utf8')) as Report };
}

test('two methods answer the same documents; run again, nothing is submitted anew', async () => {
  const { stderr, report } = await evaluate();
  expect(stderr).not.toContain('submitted before');
  expect(report.methods.map(({ variant }) => variant)).toEqual(['full', 'apb:passing=0']);
  const [full, apb] = report.methods;
  const ids = ['niah_single_2-512-0', 'niah_single_2-512-1'];
  for (const method of [full, apb]) expect(Object.keys(method?.results ?? {}).sort()).toEqual(ids);
  for (const { prefillSeconds } of Object.values(full?.results ?? {}))
    expect(prefillSeconds).toBeGreaterThan(0);
  // The demo model was trained for this; a mix-up of answers or of expectations would not pass.
  expect(Object.values(full?.results ?? {}).map(({ score }) => score)).toEqual([1, 1]);
  expect(await readFile(join(directory, 'out/report.md'), 'utf8')).toContain('| full | ');
  expect(await readFile(join(directory, 'out/report.svg'), 'utf8')).toContain('512 tokens, n = 2');

  const again = await evaluate();
  expect(again.stderr.match(/submitted before/g)).toHaveLength(2);
  expect(again.report).toEqual(report);
}, 120_000);
