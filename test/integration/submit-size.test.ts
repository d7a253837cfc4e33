/** Submits in a process of their own whose JavaScript heap is too small to hold their input. */
import { cp, mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from 'vitest';
import { readManifest } from '../../src/batch/manifest.js';
import { workItem } from '../../src/contracts/work-item.js';
import type { Config } from '../../src/platform/config.js';
import { objectKeys } from '../../src/platform/keys.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import type { Submitted } from '../../src/producer/submit.js';
import { startRedis, startS3, tempDir, type RedisService, type S3Service } from '../support/services.js';
import { runCli, testConfig } from './batch-support.js';

let redis: RedisService;
let s3: S3Service;
let directory: string;
let config: Config;
let store: ObjectStore;

beforeAll(async () => {
  [redis, s3] = await Promise.all([startRedis(), startS3()]);
});
afterAll(async () => {
  await redis?.stop();
  await s3?.stop();
});
beforeEach(async () => {
  directory = await tempDir('longhaul-size-');
  const modelDir = join(directory, 'model');
  const tiny = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));
  await cp(tiny, modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
  await writeFile(
    join(modelDir, 'config.json'),
    '{"max_position_embeddings": 1000000000, "num_attention_heads": 8}',
  );
  config = testConfig(redis, s3, { modelDir });
  store = new ObjectStore(config);
});
afterEach(async () => {
  store.close();
  await rm(directory, { recursive: true });
});

async function submitIn(heapMegabytes: number): Promise<Submitted> {
  const file = join(directory, 'requests.jsonl');
  const environment = { NODE_OPTIONS: `--max-old-space-size=${heapMegabytes}` };
  const { code, stdout, stderr } = await runCli(
    config,
    ['submit', file, '--method', 'full', '--json'],
    environment,
  );
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Submitted;
}

test('1,000 requests over 100 documents: 8 MB of questions in a heap of 64 MB', async () => {
  await mkdir(join(directory, 'documents'));
  for (let i = 0; i < 100; i++) {
    await writeFile(join(directory, `documents/${i}.txt`), `Document ${i}. The sky is blue. `.repeat(100));
  }
  const filler = 'The grass is green. The sky is blue. '.repeat(215);
  const questionOf = (i: number) => `${i}: ${filler} Why?`;
  const file = await open(join(directory, 'requests.jsonl'), 'w');
  for (let i = 0; i < 1_000; i++) {
    const document = { path: `documents/${i % 100}.txt` };
    await file.write(JSON.stringify({ custom_id: `request ${i}`, document, question: questionOf(i) }) + '\n');
  }
  await file.close();
  const { id, totals } = await submitIn(64);
  expect(totals).toMatchObject({ requests: 1_000, documents: 100 });
  const { requests } = await readManifest(store, id);
  expect(requests.map(({ custom_id }) => custom_id)).toEqual(
    Array.from({ length: 1_000 }, (_, i) => `request ${i}`),
  );
  const last = requests[999];
  expect(last?.questions).toEqual([questionOf(999)]);
  const bytes = await store.get(objectKeys.item(id, last?.item ?? -1));
  const item = workItem.parse(JSON.parse(bytes.toString()));
  expect(item.requests.map(({ custom_id }) => custom_id)).toContain('request 999');
  expect(item.requests.every(({ questions }) => (questions[0]?.query.length ?? 0) > 1_500)).toBe(true);
});

test('a document of 12 MB in a heap of 48 MB', async () => {
  const file = await open(join(directory, 'long.txt'), 'w');
  for (let i = 0; i < 120; i++)
    await file.write(`${i} The grass is green. The sky is blue.`.repeat(3_000).slice(0, 100_000));
  await file.close();
  const request = { custom_id: 'a', document: { path: 'long.txt' }, question: 'q' };
  await writeFile(join(directory, 'requests.jsonl'), JSON.stringify(request) + '\n');
  const { id, documentTokens } = await submitIn(48);
  expect(documentTokens).toBeGreaterThan(2_000_000);
  const { sha256, tokens } = (await readManifest(store, id)).requests[0]?.document ?? {
    sha256: '',
    tokens: 0,
  };
  expect(tokens).toBe(documentTokens);
  const tail = await store.getRange(objectKeys.document(sha256), 4 * (tokens - 8), 4 * tokens);
  expect(tail.length).toBe(32);
  await expect(store.getRange(objectKeys.document(sha256), 4 * tokens, 4 * tokens + 4)).rejects.toThrow();
});
