/**
 * A document beyond the model's length, from its parts to the digest, with the demo model: its length is made small for
 * it. Aggregators have the rights of infra/policies and no others. The first scheduler dies when it has made the batch and
 * before it has said so, the first aggregator between the two batches.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { runAggregator } from '../../src/aggregator/aggregator.js';
import { scheduleCommand } from '../../src/cli/schedule.js';
import { statusCommand } from '../../src/cli/status.js';
import { readManifest } from '../../src/batch/manifest.js';
import { readOutcomes } from '../../src/batch/read-outcomes.js';
import type { BatchStatus } from '../../src/contracts/status.js';
import { loadConfig, type Settings } from '../../src/platform/config.js';
import { objectKeys, scheduleKeys } from '../../src/platform/keys.js';
import { createLogger } from '../../src/platform/logger.js';
import type { RunRecord } from '../../src/producer/schedule/history.js';
import { runScheduler } from '../../src/producer/schedule/scheduler.js';
import { loadTokenizer } from '../../src/text/tokenizer.js';
import { Bench, until } from '../chaos/cohort-support.js';
import { startCommand, type Command } from '../support/command.js';
import {
  startRedis,
  startS3,
  tempDir,
  trackLeaks,
  type RedisService,
  type S3Service,
} from '../support/services.js';
import { runCommand } from './run-command.js';

const MOST = 768;
const OVERLAP = 64;
const KEY = '48213';
const QUESTION = 'Now, give me the exact number of the pass key. The pass key is';
const noise = 'The sky is blue. The tree is green. The flower is red. The sun is yellow. ';
const found = `The pass key is ${KEY}. Remember it. The pass key is ${KEY}. `;

const limited = { accessKeyId: 'key-of-aggregator', secretAccessKey: randomBytes(20).toString('hex') };
let folder: string;
let redis: RedisService;
let s3: S3Service;
let bench: Bench;
const commands: Command[] = [];
const running: (() => unknown)[] = [];
beforeAll(async () => {
  folder = await tempDir('longhaul-split-');
  const policy = JSON.parse(readFileSync(resolve('infra/policies/s3-aggregator.json'), 'utf8')) as unknown;
  [redis, s3] = await Promise.all([
    startRedis(),
    // The policy names the bucket.
    startS3({ bucket: 'longhaul', limited: [{ ...limited, policy }] }),
  ]);
  const modelDir = join(folder, 'model');
  await cp(resolve('models/demo'), modelDir, { recursive: true });
  const config = JSON.parse(await readFile(join(modelDir, 'config.json'), 'utf8')) as object;
  await writeFile(
    join(modelDir, 'config.json'),
    JSON.stringify({ ...config, max_position_embeddings: MOST }),
  );
  bench = new Bench({ redis, s3, modelDir });
});
afterAll(async () => {
  await Promise.all([redis?.stop(), s3?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});
trackLeaks();
afterEach(async () => {
  for (const end of running) await end();
  await Promise.all(commands.map((each) => each.stop()));
  await bench.close();
});

test('a document that is too long is read in parts, and a second batch, started once, asks about their answers', async () => {
  const settings: Partial<Settings> = {
    redisUrl: redis.url,
    ...s3.settings,
    modelDir: bench.services.modelDir,
    ranks: 2,
  };
  const start = (args: string[], more: Partial<Settings>) => {
    const command = startCommand(args, { ...settings, ...more });
    commands.push(command);
    return command;
  };
  const rights = { s3AccessKeyId: limited.accessKeyId, s3SecretAccessKey: limited.secretAccessKey };
  bench.cohort(2, 'main');
  const [submitted, finished] = [join(folder, 'submitted'), join(folder, 'finished')];
  start(['aggregator'], { ...rights, testPoint: `success,SIGKILL,${finished}` });
  start(['scheduler'], { testPoint: `manifest,SIGKILL,${submitted}` });
  const flags = { ...settings, profile: 'fast', logLevel: 'silent' };
  const config = loadConfig({ flags, environment: {}, directory: '/nonexistent' });
  const cli = async (...args: string[]) => (await runCommand(config, scheduleCommand(), ...args)).stdout;
  const batches = async () => {
    const ids: string[] = [];
    for await (const id of bench.store.listFolders(objectKeys.batches())) ids.push(id);
    return ids;
  };
  const history = async () => JSON.parse(await cli('history', 'nightly', '--json')) as RunRecord[];
  const record = async () => (await history())[0];
  const logs = () => [...commands.map(({ log }) => log.join(''))].join('\n');

  const half = noise.repeat(14) + found + noise.repeat(14);
  await bench.store.create('inputs/long.txt', half + half);
  await bench.store.create('inputs/short.txt', half);
  const prompt = join(folder, 'prompt.txt');
  await writeFile(prompt, QUESTION);
  const clock = ['--cron', '0 6 1 1 *', '--input', 's3://longhaul/inputs/', '--prompt', prompt];
  await cli('add', 'nightly', ...clock, '--overlap', String(OVERLAP), '--max-tokens', '12');
  const run = (await cli('run-now', 'nightly')).trim();

  await until('both are killed', 60_000, () =>
    Promise.resolve(existsSync(submitted) && existsSync(finished)),
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${logs()}`);
  });
  const [batch = ''] = await batches();
  expect(await bench.store.exists(objectKeys.success(batch))).toBe(true);
  expect(await bench.store.exists(objectKeys.then(batch))).toBe(false);
  expect(await record()).toMatchObject({ run, status: 'running', batch_id: null, then: null });
  const { header, requests } = await readManifest(bench.store, batch);
  expect(header.then).toEqual({ question: null });
  const parts = requests.flatMap(({ part }) => (part === undefined ? [] : [part]));
  expect(parts.map(({ of, index, count }) => [of, index, count])).toEqual([
    ['s3://longhaul/inputs/long.txt', 0, 2],
    ['s3://longhaul/inputs/long.txt', 1, 2],
  ]);
  expect((parts[0]?.end ?? 0) - (parts[1]?.start ?? 0)).toBe(OVERLAP);

  // Two aggregators at once, in this process.
  const heirs = new AbortController();
  const own = loadConfig({ flags: { ...flags, ...rights }, environment: {}, directory: '/nonexistent' });
  const silent = createLogger('heir', own);
  running.push(
    () => heirs.abort(),
    ...[1, 2].map(() => {
      const ended = runAggregator(own, silent, heirs.signal);
      return () => ended;
    }),
  );
  const next = runScheduler(config, silent, heirs.signal);
  running.push(() => next);
  const ended = await until('the end of the run', 60_000, async () => {
    const one = await record();
    return one !== undefined && one.end !== null && one;
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${logs()}`);
  });
  expect(ended).toMatchObject({
    run,
    status: 'succeeded',
    batch_id: batch,
    end: { documents: 2, answered: 2 },
  });
  expect((await batches()).sort()).toEqual([batch, ended.then].sort());
  expect(await history()).toHaveLength(1);
  expect(await cli('history', 'nightly')).toContain(`${batch} then ${ended.then}`);

  const lines = (await bench.store.get(`${scheduleKeys.digests('nightly')}${run}.jsonl`)).toString().trim();
  const entries = lines.split('\n').map((line) => JSON.parse(line) as { parts: number; answer: string });
  expect(entries.map(({ parts }) => parts)).toEqual([2, 1]);
  // The demo model answers no document as short as the parts' answers: what it is asked about counts.
  expect(entries[1]?.answer).toContain(KEY);
  const second = await readManifest(bench.store, ended.then ?? '');
  const ids = await bench.store.get(objectKeys.document(second.requests[0]?.document?.sha256 ?? ''));
  const tokenizer = await loadTokenizer(settings.modelDir ?? '');
  const text = await tokenizer.decodeAnswer([...new Uint32Array(new Uint8Array(ids).buffer)]);
  await tokenizer.close();
  const answers: unknown[] = [];
  for await (const one of readOutcomes(bench.store, second, [0])) answers.push(one.answers[0]?.text);
  expect(answers).toEqual([entries[0]?.answer]);
  expect(text.split('\n\n')).toEqual(Array(2).fill(`${QUESTION} ${KEY}.`));

  const status = async (id: string) =>
    JSON.parse((await runCommand(config, statusCommand(), id, '--json')).stdout) as BatchStatus;
  expect(await status(batch)).toMatchObject({ status: 'completed', then: ended.then, then_of: null });
  expect(await status(ended.then ?? '')).toMatchObject({ then: null, then_of: batch });
  expect((await runCommand(config, statusCommand(), batch)).stdout).toContain(`then ${ended.then}: `);
});
