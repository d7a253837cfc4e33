import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { submitCommand } from '../../src/cli/submit.js';
import { writeCalibration } from '../../src/plan/calibration.js';
import type { Submitted } from '../../src/producer/submit.js';
import { modelDigests } from '../../src/text/model-digests.js';
import { startRedis, startS3, tempDir, type RedisService, type S3Service } from '../support/services.js';

let redis: RedisService;
let s3: S3Service;
let directory: string;

beforeAll(async () => {
  [redis, s3, directory] = await Promise.all([startRedis(), startS3(), tempDir('longhaul-submit-cli-')]);
  const modelDir = join(directory, 'model');
  const tiny = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));
  await cp(tiny, modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
  const settings = { ...s3.settings, redisUrl: redis.url, modelDir, ranks: 2 };
  await writeFile(join(directory, 'config.json'), JSON.stringify(settings));
});
afterAll(async () => {
  await redis?.stop();
  await s3?.stop();
  await rm(directory, { recursive: true });
});
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

/** Runs `longhaul submit` in this process and returns what it wrote. */
async function longhaul(file: string, ...args: string[]) {
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += String(text);
      return true;
    });
  }
  const program = new Command('longhaul').option('--config <file>').addCommand(submitCommand());
  const path = join(directory, 'requests.jsonl');
  await writeFile(path, file);
  const argv = ['--config', join(directory, 'config.json'), 'submit', path, ...args];
  const done = program.parseAsync(argv, { from: 'user' });
  return { written, done };
}

const good = '{"custom_id":"a","document":"The sky is blue.","question":"q"}\n';

test('prints the id, with --json everything, and says what was submitted before', async () => {
  const first = await longhaul(good);
  await first.done;
  expect(first.written.stdout).toMatch(/^batch_[0-9a-f]{32}\n$/);
  expect(first.written.stderr).toMatch(
    /^submitted batch_\w+: 1 request, 1 question, 1 document, 11 tokens; apb on 2 ranks, l_a 32, l_p 16 by spava/m,
  );
  vi.restoreAllMocks();

  const second = await longhaul(good, '--json');
  await second.done;
  expect(JSON.parse(second.written.stdout)).toMatchObject({
    id: first.written.stdout.trim(),
    created: false,
    options: { method: 'apb', ranks: 2, anchor: 32, passing: 16, select: 'spava', blocks: 'even' },
    totals: { requests: 1 },
  });
  expect(second.written.stderr).toMatch(/was submitted before \(--new makes another\)/);
});

test('flags reach the batch', async () => {
  const { written, done } = await longhaul(
    good,
    '--method',
    'star',
    '--ranks',
    '3',
    '--anchor',
    '48',
    '--blocks',
    'balanced',
    '--json',
  );
  await done;
  expect(JSON.parse(written.stdout)).toMatchObject({
    options: { method: 'star', ranks: 3, anchor: 48, passing: 0, blocks: 'balanced', select: null },
  });
});

test('refuses what the model cannot be run with, before anything is stored', async () => {
  const ulysses = await longhaul(good, '--method', 'ulysses', '--ranks', '3');
  await expect(ulysses.done).rejects.toThrow("3 ranks do not divide the model's 2");
  const heads = await longhaul(good, '--select', 'heads');
  await expect(heads.done).rejects.toThrow('--select heads needs retaining heads');
  expect(ulysses.written.stdout + heads.written.stdout).toBe('');
});

test('refuses a bad file with every problem', async () => {
  const bad = await longhaul(good + '{"custom_id":"b","documnet":"x","question":"q"}\n');
  await expect(bad.done).rejects.toThrow(
    /requests.jsonl: 2 problems, nothing was submitted\n {2}line 2, documnet: unknown field; did you mean "document"\?\n {2}line 2, document: is missing/,
  );
  expect(bad.written.stdout).toBe('');
});

test('names the problems of a bad file also where Redis does not answer; a good one meets Redis', async () => {
  const nowhere = join(directory, 'nowhere.json');
  const config = JSON.parse(await readFile(join(directory, 'config.json'), 'utf8')) as object;
  await writeFile(nowhere, JSON.stringify({ ...config, redisUrl: 'redis://127.0.0.1:1' }));
  const bad = await longhaul('{"custom_id":"a"}\n', '--config', nowhere);
  await expect(bad.done).rejects.toThrow(/line 1, document/);
  const fine = await longhaul(good, '--config', nowhere);
  await expect(fine.done).rejects.toThrow(/Redis at redis:\/\/127\.0\.0\.1:1 does not answer/);
});

test('--method auto runs as the planner says, and the batch says how; without a calibration it is refused', async () => {
  const modelDir = 'models/demo'; // the tiny one has no layers
  const calibrationFile = join(directory, 'calibration.json');
  const way = {
    method: 'full',
    ranks: 1,
    ring_layout: null,
    blocks: 'even',
    anchor: null,
    passing: 0,
  } as const;
  const settings = join(directory, 'config.json');
  const before = await readFile(settings, 'utf8');
  const changed = { ...(JSON.parse(before) as object), modelDir, calibrationFile };
  await writeFile(settings, JSON.stringify(changed));
  await expect((await longhaul(good, '--method', 'auto')).done).rejects.toThrow(
    'needs a calibration of this model on a machine of the cohort; make it with longhaul plan --calibrate',
  );
  await writeCalibration(calibrationFile, {
    format: 'longhaul-calibration/1',
    model: (await modelDigests(modelDir)).model,
    machine: 'one of the cohort',
    backend: 'cpu',
    threads: 1,
    precision: 'float32',
    engine: 'cpu',
    comm: 'tcp',
    seconds_by: 'processor',
    places: 2,
    measured_at: new Date().toISOString(),
    measurements: [
      { way, blocks: [4096], seconds: [0.5] },
      { way, blocks: [1024], seconds: [0.07] },
    ],
    rates: { rowSeconds: 5e-5, pairSeconds: 3e-8 },
  });
  try {
    const { written, done } = await longhaul(good, '--method', 'auto', '--json');
    await done;
    const { options, why } = JSON.parse(written.stdout) as Submitted;
    expect(options).toMatchObject({ ranks: 2, anchor: null, passing: 0, select: null });
    expect(['full', 'ring', 'ulysses']).toContain(options.method);
    expect(why).toMatch(/^exact, because the best way that is not/);
    expect(written.stderr).toContain(why);
    for (const [args, message] of [
      [['--method', 'auto', '--anchor', '5'], '--method auto chooses --anchor itself'],
      [['--policy', 'fast'], '--policy fast belongs to --method auto; leave it out with apb'],
    ] as const) {
      await expect((await longhaul(good, ...args)).done).rejects.toThrow(message);
    }
  } finally {
    await writeFile(settings, before);
  }
});
