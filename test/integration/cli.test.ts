import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import type { BatchStatus } from '../../src/contracts/status.js';
import { cohortKeys, redisKeys } from '../../src/platform/keys.js';
import { freePort } from '../support/services.js';
import { makeBatch, makeResult, newId, runCli, useBench, type Bench } from './batch-support.js';

const file = useBench();
let bench: Bench;
let directory: string;

beforeEach(async () => {
  ({ bench } = file);
  directory = await mkdtemp(join(tmpdir(), 'longhaul-cli-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const cli = (...args: string[]) => runCli(bench.config, args);

test('usage: help, version, unknown commands and options', async () => {
  const [help, version, none, unknown, option] = await Promise.all([
    cli('--help'),
    cli('--version'),
    cli(),
    cli('statsu'),
    cli('status', '--wach'),
  ]);
  expect(help).toMatchObject({ code: 0, stderr: '' });
  for (const name of [
    'submit',
    'status',
    'results',
    'cancel',
    'retry',
    'dead',
    'batch',
    'aggregator',
    'doctor',
  ]) {
    expect(help.stdout).toContain(`\n  ${name}`);
  }
  expect(version.code).toBe(0);
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(none.code).toBe(64);
  expect(unknown.code).toBe(64);
  expect(unknown.stderr).toContain('Did you mean status?');
  expect(option.code).toBe(64);
  expect(option.stderr).toContain('--watch');
});

test('a batch from the outside: status, results before and after its end, cancel', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 2] });
  await createBatch(bench.deps, manifest, items);
  const cohort = {
    state: 'READY',
    ranks: 4,
    generation: '1.a',
    backend: 'cpu',
    model: 'demo',
    updated_at: 1,
  };
  await bench.deps.redis.hset(cohortKeys('main').state, cohort);
  await bench.deps.redis.zadd(redisKeys.cohorts(), Date.now(), 'main');

  const list = await cli('status');
  expect(list.stdout).toContain(id);
  expect(list.stdout).toContain('cohort main: READY, generation 1.a, ranks 4');
  const early = await cli('results', id, '--out', directory);
  expect(early.code).toBe(2);
  expect(early.stderr).toContain('is not finished');
  expect(early.stderr).not.toContain('    at ');

  bench.aggregator();
  bench.answering((job) => makeResult(items[job.item]!));
  const watched = await cli('status', id, '--watch', '--json');
  expect(watched.code).toBe(0);
  expect((JSON.parse(watched.stdout) as BatchStatus).request_counts).toMatchObject({ total: 3, answered: 3 });
  const finished = await cli('status', id);
  expect(finished.stdout).toContain(
    '2001 tokens of documents, 9 of questions, 6 of answers; 6.0 rank seconds on CPUs\n',
  );
  const results = await cli('results', id, '--out', directory, '--json');
  expect(JSON.parse(results.stdout)).toMatchObject({ batch: id, counts: { answered: 3 } });
  expect((await readFile(join(directory, 'output.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(3);

  const late = await cli('cancel', id);
  expect(late.code).toBe(1);
  expect(late.stderr).toContain('[BATCH_FINISHED]');
  const missing = await cli('status', 'no-such-batch');
  expect(missing).toMatchObject({ code: 1, stdout: '' });
  expect(missing.stderr).toContain('[NOT_FOUND]');
});

test('cancel ends a waiting batch', async () => {
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1, 1] });
  await createBatch(bench.deps, manifest, items);
  bench.aggregator();
  const cancelled = await cli('cancel', id, '--json');
  expect(cancelled.code).toBe(0);
  expect((await bench.ended(id)).status).toBe('cancelled');
});

test('doctor: names each problem and its remedy', async () => {
  const port = await freePort();
  const broken = await cli(
    '--redis-url',
    `redis://127.0.0.1:${port}`,
    '--s3-bucket',
    'no-such-bucket',
    'doctor',
    '--json',
  );
  expect(broken.code).toBe(1);
  const found = JSON.parse(broken.stdout) as { check: string; ok: boolean; detail: string; remedy: string }[];
  const by = new Map(found.map((f) => [f.check, f]));
  expect(by.get('node')?.ok).toBe(true);
  expect(by.get('redis')).toMatchObject({ ok: false });
  expect(by.get('redis')?.detail).toContain('does not answer');
  expect(by.get('s3')?.detail).toContain('no-such-bucket');
  for (const { ok, remedy } of found) expect(remedy === '').toBe(ok);

  const whole = JSON.parse((await cli('doctor', '--json')).stdout) as typeof found;
  expect(whole.filter(({ check }) => check === 'redis' || check === 's3').map(({ ok }) => ok)).toEqual([
    true,
    true,
  ]);
});

test('a wrong setting is refused with its value and where it came from', async () => {
  const refused = await runCli(bench.config, ['status'], { LONGHAUL_S3_ENDPOINT: 'nowhere' });
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('s3Endpoint = "nowhere"');
  expect(refused.stderr).toContain('the environment');
});
