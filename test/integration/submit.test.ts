import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { Tokenizer as Encoder } from 'tokenizers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readManifest } from '../../src/batch/manifest.js';
import { withQueues } from '../../src/batch/queues.js';
import { getStatus } from '../../src/batch/status.js';
import { workItem } from '../../src/contracts/work-item.js';
import { loadConfig } from '../../src/platform/config.js';
import { InputError } from '../../src/platform/errors.js';
import { objectKeys } from '../../src/platform/keys.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { createRedis } from '../../src/platform/redis.js';
import type { StageProgress } from '../../src/producer/stage-documents.js';
import { submit, type SubmitInput } from '../../src/producer/submit.js';
import { startRedis, startS3, tempDir, type RedisService, type S3Service } from '../support/services.js';
import { anywhere } from '../support/source-policy.js';

const tiny = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));
let redisService: RedisService;
let s3: S3Service;
let redis: Redis;
let store: ObjectStore;
let directory: string;
let modelDir: string;
let file: string;

beforeAll(async () => {
  [redisService, s3] = await Promise.all([startRedis(), startS3()]);
});
afterAll(async () => {
  await redisService?.stop();
  await s3?.stop();
});

let run = 0;
beforeEach(async () => {
  directory = await tempDir('longhaul-submit-');
  modelDir = join(directory, 'model');
  file = join(directory, 'requests.jsonl');
  await cp(tiny, modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
  // Each test has a prefix of its own: what lies below it is what the test wrote.
  const settings = { ...s3.settings, s3Prefix: `run-${run++}`, redisUrl: redisService.url };
  const config = loadConfig({ flags: settings, environment: {}, directory });
  store = new ObjectStore(config);
  redis = createRedis(config.redisUrl, 'command');
});
afterEach(async () => {
  await redis.flushall();
  redis.disconnect();
  store.close();
  await rm(directory, { recursive: true });
});

async function write(...lines: object[]): Promise<void> {
  await writeFile(file, lines.map((line) => JSON.stringify(line) + '\n').join(''));
}
const send = (change: Partial<SubmitInput> = {}) =>
  submit(
    { store, redis },
    { file, policy: anywhere, modelDir, options: { method: 'apb', ranks: 4 }, ...change },
  );

async function everyKey(): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of store.list('')) keys.push(key);
  return keys;
}
const waiting = () => withQueues(redis, ({ documents }) => documents.getPrioritizedCount());

describe('a batch', () => {
  test('is staged, planned and enqueued', async () => {
    const text = 'The sky is blue. <|eos|> Here we go. '.repeat(40);
    await writeFile(join(directory, 'sky.txt'), text);
    await write(
      {
        custom_id: 'a',
        document: { path: 'sky.txt' },
        question: 'What colour is the sky?',
        metadata: { k: 'v' },
      },
      {
        custom_id: 'b',
        document: 'The sun is yellow.',
        questions: ['one <|answer|>', 'two'],
        max_tokens: 7,
        seed: 3,
      },
      { custom_id: 'c', document: text, question: 'again?' },
    );
    const progress: StageProgress[] = [];
    const { id, created, options, totals } = await send({ onProgress: (p) => progress.push(p) });
    expect(created).toBe(true);
    expect(id).toMatch(/^batch_[0-9a-f]{32}$/);
    expect(totals).toEqual({ requests: 3, questions: 4, documents: 2, items: 2 });
    expect(progress[0]).toEqual({ done: 0, total: 3, tokens: 0 });
    expect(progress.at(-1)).toMatchObject({ done: 3, total: 3 });

    // The ids come from the library itself, told of no special tokens.
    const json = JSON.parse(await readFile(join(tiny, 'tokenizer.json'), 'utf8')) as {
      added_tokens: unknown[];
    };
    const plain = Encoder.fromString(JSON.stringify({ ...json, added_tokens: [] }));
    const ids = async (t: string) => (await plain.encode(t)).getIds();

    const manifest = await readManifest(store, id);
    expect(manifest.requests.map(({ custom_id, item }) => [custom_id, item])).toEqual([
      ['a', 0],
      ['b', 1],
      ['c', 0],
    ]);
    const { sha256, tokens } = manifest.requests[0]?.document ?? { sha256: '', tokens: 0 };
    const expected = Buffer.from(Uint32Array.from([0, ...(await ids(text))]).buffer);
    const staged = await store.get(objectKeys.document(sha256));
    expect(staged.equals(expected)).toBe(true);
    expect(tokens * 4).toBe(staged.length);
    expect(sha256).toBe(
      createHash('sha256').update(manifest.header.digests.tokenizer).update(staged).digest('hex'),
    );

    const item = workItem.parse(JSON.parse((await store.get(objectKeys.item(id, 1))).toString()));
    expect(item).toMatchObject({ options, digests: manifest.header.digests, batch_id: id });
    expect(item.requests).toEqual([
      {
        ordinal: 1,
        custom_id: 'b',
        max_tokens: 7,
        temperature: 0,
        seed: 3,
        questions: [
          { text: 'one <|answer|>', query: [1, ...(await ids('one <|answer|>')), 2] },
          { text: 'two', query: [1, ...(await ids('two')), 2] },
        ],
      },
    ]);
    expect(await waiting()).toBe(2);
    expect(await getStatus({ store, redis }, id)).toMatchObject({
      status: 'in_progress',
      request_counts: { total: 3, pending: 3 },
      input: 'requests.jsonl',
    });
  });

  test('submitted twice is one; --new, other options, other content or other weights make another', async () => {
    const line = { custom_id: 'a', document: 'The sky is blue.', question: 'q' };
    await write(line);
    const first = await send();
    expect(await send()).toEqual({ ...first, created: false });
    expect(await send({ windowSeconds: 5, priority: 7 })).toEqual({ ...first, created: false });
    expect(await waiting()).toBe(1);

    const others = [await send({ isNew: true }), await send({ isNew: true })];
    others.push(await send({ options: { method: 'full', ranks: 4 } }));
    await write({ ...line, seed: 1 });
    others.push(await send());
    await write(line);
    await writeFile(join(modelDir, 'model.safetensors'), 'other weights');
    others.push(await send());
    expect(others.map((o) => o.created)).toEqual([true, true, true, true, true]);
    expect(new Set([first, ...others].map((o) => o.id)).size).toBe(6);
    expect(await waiting()).toBe(6);
  });

  test('whose submit died after the manifest is enqueued by the next submit', async () => {
    await write({ custom_id: 'a', document: 'The sky is blue.', question: 'q' });
    const { id } = await send();
    await redis.flushall();
    expect(await send()).toMatchObject({ id, created: false });
    expect(await waiting()).toBe(1);
  });

  test('takes documents from S3', async () => {
    await store.put('inbox/a.txt', [Buffer.from('The tree is green.')]);
    await write({ custom_id: 'a', document: { url: store.url('inbox/a.txt') }, question: 'q' });
    const { id } = await send();
    const inline = await readManifest(store, id);
    await write({ custom_id: 'a', document: 'The tree is green.', question: 'q' });
    expect((await send()).id).toBe(id);
    expect(inline.requests[0]?.document.tokens).toBeGreaterThan(1);
  });

  test('of a document of 1,000,000 characters', async () => {
    await writeFile(
      join(modelDir, 'config.json'),
      '{"max_position_embeddings": 1048576, "num_attention_heads": 4}',
    );
    const text = 'The grass is green. The sky is blue. The sun is yellow. '.repeat(17_858);
    expect(text.length).toBeGreaterThan(1_000_000);
    await writeFile(join(directory, 'long.txt'), text);
    await write({ custom_id: 'a', document: { path: 'long.txt' }, question: 'q' });
    const { id, documentTokens } = await send();
    const { sha256 } = (await readManifest(store, id)).requests[0]?.document ?? { sha256: '' };
    expect((await store.get(objectKeys.document(sha256))).length).toBe(4 * documentTokens);
    const tail = await store.getRange(
      objectKeys.document(sha256),
      4 * (documentTokens - 8),
      4 * documentTokens,
    );
    expect(tail.length).toBe(32);
  });
});

describe('a bad file', () => {
  async function refused(change: Partial<SubmitInput> = {}): Promise<string[]> {
    const error = await send(change).then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).problems.map((p) => `${p.line} ${p.field}: ${p.message}`);
  }
  const good = { custom_id: 'good', document: 'The sky is blue.', question: 'q' };

  test('leaves Redis and S3 untouched', async () => {
    await write(good, { ...good, custom_id: 'b', max_token: 3 }, good);
    expect(await refused()).toEqual([
      '2 max_token: unknown field; did you mean "max_tokens"?',
      expect.stringMatching(/^3 custom_id: "good" is already used on line 1/),
    ]);
    expect(await redis.dbsize()).toBe(0);
    expect(await everyKey()).toEqual([]);
  });

  test('names every document that cannot be read, for every line that uses it', async () => {
    await mkdir(join(directory, 'folder'));
    await writeFile(join(directory, 'latin1.txt'), Buffer.from('caf\xe9', 'latin1'));
    await write(
      { ...good, document: { path: 'absent.txt' } },
      { ...good, custom_id: '2', document: { path: 'latin1.txt' } },
      { ...good, custom_id: '3', document: { path: 'absent.txt' } },
      { ...good, custom_id: '4', document: { path: 'folder' } },
      { ...good, custom_id: '5', document: { url: store.url('absent') } },
      { ...good, custom_id: '6' },
    );
    expect(await refused()).toEqual([
      expect.stringMatching(/^1 document.path: .*absent.txt does not exist/),
      expect.stringMatching(/^2 document.path: .*latin1.txt is not UTF-8: byte 0xe9 at offset 3/),
      expect.stringMatching(/^3 document.path: .*absent.txt does not exist/),
      expect.stringMatching(/^4 document.path: .*not a regular file/),
      expect.stringMatching(/^5 document.url: .*absent does not exist/),
    ]);
    expect(await redis.dbsize()).toBe(0);
    expect((await everyKey()).filter((key) => !key.startsWith('documents/'))).toEqual([]);
  });

  test('with a document too long for the model; --allow-too-long takes it', async () => {
    const long = { ...good, custom_id: 'long', document: 'The sky is blue. '.repeat(1_000) };
    await write(good, long);
    expect(await refused()).toEqual([
      expect.stringMatching(/^2 document: has \d{4,} tokens; .* leaves room for 40\d\d\. Split it/),
    ]);
    expect(await redis.dbsize()).toBe(0);
    const { totals, options } = await send({ allowTooLong: true });
    expect(totals.items).toBe(2);
    // The long document did not set the anchor.
    expect(options.anchor).toBe(32);
  });

  test('with a question too long for the anchor', async () => {
    await write(good, {
      ...good,
      custom_id: 'b',
      question: undefined,
      questions: ['q', '12345 '.repeat(20)],
    });
    expect(await refused({ options: { method: 'apb', ranks: 4, anchor: 64 } })).toEqual([
      expect.stringMatching(/^2 questions\[1\]: has 1\d\d tokens; an anchor of 64 takes queries of up to 32/),
    ]);
    expect((await send()).options.anchor).toBeGreaterThanOrEqual(240);
  });
});

test('an S3 that fails is not blamed on the file, and the next try completes', async () => {
  await write({ custom_id: 'a', document: 'The sky is blue.', question: 'q' });
  await s3.faults.set({ outage: 'error' });
  await expect(send()).rejects.toMatchObject({ code: 'S3' });
  expect(await redis.dbsize()).toBe(0);
  await s3.faults.clear();
  expect((await send()).created).toBe(true);
});

test('an abort ends a submit before anything is enqueued', async () => {
  await write({ custom_id: 'a', document: 'The sky is blue.', question: 'q' });
  await expect(send({ signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  expect(await redis.dbsize()).toBe(0);
});
