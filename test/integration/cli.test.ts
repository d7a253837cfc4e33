import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import type { BatchStatus } from '../../src/contracts/status.js';
import { workItem } from '../../src/contracts/work-item.js';
import { cohortKeys, objectKeys, redisKeys } from '../../src/platform/keys.js';
import { compiled } from '../support/compiled.js';
import { watch } from '../support/leaks.js';
import { freePort } from '../support/services.js';
import {
  failItem,
  makeBatch,
  makeResult,
  newId,
  runCli,
  spawnCli,
  useBench,
  type Bench,
} from './batch-support.js';

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

test('neither OpenTelemetry’s SDK nor its exporter is loaded where no endpoint is configured', async () => {
  const script = `
    import { createRequire } from 'node:module';
    const { createProgram } = await import(${JSON.stringify(compiled('src/cli/program.ts'))});
    await createProgram().parseAsync(['node', 'longhaul', 'completion', 'bash']);
    const loaded = Object.keys(createRequire(import.meta.url).cache);
    console.error(loaded.some((path) => /opentelemetry.(sdk|exporter)|bullmq-otel/.test(path)));`;
  const run = promisify(execFile);
  const loads = async (env: Record<string, string>) =>
    (await run(process.execPath, ['--input-type=module', '-e', script], { env })).stderr.trim();
  const endpoint = 'http://127.0.0.1:4318';
  expect(
    await Promise.all([
      loads({}),
      loads({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }),
      loads({ LONGHAUL_OTLP_ENDPOINT: endpoint }),
    ]),
  ).toEqual(['false', 'true', 'true']);
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
  expect(JSON.parse(watched.stdout) as BatchStatus).toMatchObject({
    request_counts: { total: 3, answered: 3 },
    documents: { total: 2, ended: 2 },
    usage: { query_tokens: 9, answer_tokens: 6 },
    work: { documents: 2, document_tokens: 2001, rank_seconds: { gpu: 0, cpu: 6 } },
  });
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

test('submit --wait tells progress and failures as they come; Ctrl-C detaches, and the batch goes on', async () => {
  const model = join(directory, 'model');
  await cp(resolve('test/fixtures/tiny-model'), model, { recursive: true });
  await writeFile(join(model, 'model.safetensors'), 'weights');
  const input = join(directory, 'requests.jsonl');
  const line = (n: number) =>
    JSON.stringify({ custom_id: `r-${n}`, document: `The sky is ${n}.`, question: 'q' });
  await writeFile(input, [0, 1, 2].map(line).join('\n') + '\n');
  bench.aggregator();
  let open = () => undefined as void;
  const gate = new Promise<void>((go) => (open = go));
  bench.answering(async ({ batch_id, item }) => {
    if (item === 1) failItem({ end: 'failed', code: 'TOO_LONG', message: 'it has too many tokens' });
    if (item === 2) await gate;
    const bytes = await bench.deps.store.get(objectKeys.item(batch_id, item));
    return makeResult(workItem.parse(JSON.parse(bytes.toString())));
  });

  const child = watch(spawnCli({ ...bench.config, modelDir: model }, ['submit', input, '--wait']));
  const written = { out: '', err: '' };
  child.stdout?.on('data', (text: Buffer) => (written.out += text.toString()));
  child.stderr?.on('data', (text: Buffer) => (written.err += text.toString()));
  const closed = once(child, 'close');
  await bench.until(
    () => Promise.resolve(/: 2 of 3 requests ended/.test(written.err) ? true : undefined),
    30_000,
    () => written.err,
  );
  child.kill('SIGINT');
  expect((await closed)[0]).toBe(130);
  expect(written.out).toBe('');
  expect(written.err).toContain('request "r-1" failed: it has too many tokens [TOO_LONG]\n');
  expect(written.err).toMatch(
    /2 of 3 requests ended: 1 answered, 1 failed; 2 of 3 documents, 1 failed, \d+ tokens\/s, [\d.]+ requests\/min, \d+ s to go\n/,
  );
  const [, id] = /longhaul status (\S+) --watch\nand then: longhaul results \1\n$/.exec(written.err) ?? [];
  expect(written.err).toContain(`submitted ${id}:`);
  open();
  expect((await bench.ended(id ?? '')).request_counts).toMatchObject({ answered: 2, failed: 1 });
  const watched = await cli('status', id ?? '', '--watch');
  expect(watched.code).toBe(0);
  expect(watched.stdout).toMatch(
    /\n\d+ tokens of documents, 6 of questions, 4 of answers; 6.0 rank seconds on CPUs\n/,
  );
  expect(watched.stderr).toContain('request "r-1" failed: it has too many tokens [TOO_LONG]\n');
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
