/** Priority, completion window, idempotency key, OpenAI lines, and a submit that dies half-way. */
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listBatches } from '../../src/batch/list.js';
import { getStatus } from '../../src/batch/status.js';
import { readManifest } from '../../src/batch/manifest.js';
import { workItem } from '../../src/contracts/work-item.js';
import { jobIds, objectKeys } from '../../src/platform/keys.js';
import { withQueues } from '../../src/batch/queues.js';
import { restoreBatch } from '../../src/batch/restore.js';
import { submit, type SubmitInput } from '../../src/producer/submit.js';
import { tempDir } from '../support/services.js';
import { anywhere } from '../support/source-policy.js';
import { makeResult, runCli, spawnCli, useBench } from './batch-support.js';

const services = useBench();
let directory: string;
let modelDir: string;
let file: string;

beforeEach(async () => {
  directory = await tempDir('longhaul-options-');
  modelDir = join(directory, 'tiny');
  file = join(directory, 'requests.jsonl');
  const tiny = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));
  await cp(tiny, modelDir, { recursive: true });
  await writeFile(join(modelDir, 'model.safetensors'), 'weights');
});
afterEach(() => rm(directory, { recursive: true }));

async function write(...lines: object[]): Promise<void> {
  await writeFile(file, lines.map((line) => JSON.stringify(line) + '\n').join(''));
}
/** Of a content of its own: S3 keeps the batches of earlier tests. */
let content = 0;
const request = (custom_id: string) => ({ custom_id, document: `Document ${content}.`, question: 'q' });
beforeEach(async () => {
  content += 1;
  await write(request('a'));
});
const send = (change: Partial<SubmitInput> = {}) =>
  submit(services.bench.deps, {
    file,
    policy: anywhere,
    modelDir,
    options: { method: 'full', ranks: 1 },
    ...change,
  });
const answer = async ({ batch_id, item }: { batch_id: string; item: number }) => {
  const bytes = await services.bench.deps.store.get(objectKeys.item(batch_id, item));
  return makeResult(workItem.parse(JSON.parse(bytes.toString())));
};

describe('priority', () => {
  test('higher runs first, equal in the order of submission; Redis may be lost in between', async () => {
    const order: string[] = [];
    const names = new Map<string, string>();
    for (const [name, priority] of [
      ['low', -100],
      ['normal', undefined],
      ['high', 100],
      ['normal too', 0],
    ] as const) {
      names.set((await send({ isNew: true, priority })).id, name);
    }
    await services.bench.deps.redis.flushall();
    const { deps } = services.bench;
    for (const id of names.keys()) await restoreBatch(deps, await readManifest(deps.store, id));
    services.bench.answering((job) => {
      order.push(names.get(job.batch_id) ?? '');
      return answer(job);
    }, 1);
    await services.bench.until(() => Promise.resolve(order.length === 4 ? true : undefined));
    expect(order).toEqual(['high', 'normal', 'normal too', 'low']);
  });

  test('is the batch’s from its first submit on, which the command says', async () => {
    const first = await send({ priority: 5 });
    expect(first.priority).toBe(5);
    const config = { ...services.bench.config, modelDir };
    const args = ['submit', file, '--method', 'full', '--ranks', '1', '--priority', '-7', '--window', '90m'];
    const again = await runCli(config, args);
    expect(again.stdout.trim()).toBe(first.id);
    expect(again.stderr).toMatch(/its priority stays 5; --priority -7 was not applied/);
    expect(again.stderr).toMatch(/it never expires, as first submitted; --window was not applied/);
    await withQueues(services.bench.deps.redis, async ({ documents }) => {
      expect((await documents.getJob(jobIds.document(first.id, 0)))?.opts.priority).toBe(96);
    });
  });
});

test('a window sets when the batch expires, in its manifest, its items and its status', async () => {
  const { deps } = services.bench;
  const { id, expiresAt } = await send({ windowSeconds: 5400 });
  const { header } = await readManifest(deps.store, id);
  expect(header.expires_at).toBe(header.created_at + 5400);
  expect(expiresAt).toBe(header.expires_at);
  expect((await getStatus(deps, id)).expires_at).toBe(header.expires_at);
  const item = workItem.parse(JSON.parse((await deps.store.get(objectKeys.item(id, 0))).toString()));
  expect(item.expires_at).toBe(header.expires_at);
});

test('what waits when the window is over ends as expired', async () => {
  services.bench.aggregator();
  const { id } = await send({ windowSeconds: 1 });
  expect((await services.bench.ended(id)).request_counts).toMatchObject({ expired: 1 });
});

describe('an idempotency key', () => {
  let key: string;
  beforeEach(() => (key = `key ${content} ${Date.now()}`));

  test('makes twenty submits at once, each asking for a new batch, one', async () => {
    const sent = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        send({ isNew: true, idempotencyKey: key, windowSeconds: 1000 + i }),
      ),
    );
    const [id] = [...new Set(sent.map((s) => s.id))];
    expect(new Set(sent.map((s) => s.id)).size).toBe(1);
    expect(sent.filter((s) => s.created)).toHaveLength(1);
    const { deps } = services.bench;
    expect((await listBatches(deps)).map((b) => b.id)).toEqual([id]);
    await withQueues(deps.redis, async ({ documents }) => {
      expect(await documents.getPrioritizedCount()).toBe(1);
    });
    // Items of a submit that lost have the winner's expiry.
    const { header } = await readManifest(deps.store, id ?? '');
    const item = workItem.parse(JSON.parse((await deps.store.get(objectKeys.item(id ?? '', 0))).toString()));
    expect(item.expires_at).toBe(header.expires_at);
  });

  test('stands for its content, also where Redis was lost; with other content it is a conflict', async () => {
    const { id } = await send({ isNew: true, idempotencyKey: key });
    await services.bench.deps.redis.flushall();
    expect(await send({ isNew: true, idempotencyKey: key })).toMatchObject({ id, created: false });
    await write(request('another'));
    await expect(send({ idempotencyKey: key })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      message: expect.stringMatching(
        new RegExp(`"${key}" stands for batch ${id}, which has other`),
      ) as unknown,
    });
    expect(await listBatches(services.bench.deps)).toHaveLength(1);
    expect((await send({ idempotencyKey: `${key} 2` })).id).not.toBe(id);
  });

  test('without --new, is the batch that the content has anyway', async () => {
    const { id } = await send();
    expect(await send({ idempotencyKey: key })).toMatchObject({ id, created: false });
  });
});

test('lines of both styles in one file are each answered in their own', async () => {
  const { bench } = services;
  const chat = (custom_id: string, question: string) => ({
    custom_id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: {
      model: 'tiny',
      max_tokens: 9,
      messages: [
        { role: 'system', content: `Document ${content}.` },
        { role: 'user', content: question },
      ],
    },
  });
  await write(request('own'), chat('chat 1', 'Who?'), chat('chat 2', 'When?'));
  const { id, totals } = await send();
  expect(totals).toMatchObject({ requests: 3, documents: 1, items: 1 });
  bench.answering(answer);
  bench.aggregator();
  expect((await bench.ended(id)).request_counts).toMatchObject({ answered: 3 });
  const { header } = await readManifest(bench.deps.store, id);
  const [own, first, second] = (await bench.files(id)).output;
  expect(own).toMatchObject({ format: 'longhaul-outcome/1', custom_id: 'own', status: 'answered' });
  expect(first).toMatchObject({
    custom_id: 'chat 1',
    error: null,
    response: {
      status_code: 200,
      body: {
        object: 'chat.completion',
        created: header.created_at,
        model: 'tiny',
        choices: [{ message: { role: 'assistant', content: 'answer 1' }, finish_reason: 'stop' }],
      },
    },
  });
  expect(second).toMatchObject({ custom_id: 'chat 2' });

  await write({ ...chat('x', 'Who?'), body: { ...chat('x', 'Who?').body, model: 'gpt-4o' } });
  await expect(send()).rejects.toThrow(/line 1, body.model: "gpt-4o" is not served here, "tiny" is/);
});

describe('a submit killed half-way', () => {
  test.each([
    ['before its documents', 'documents/'],
    ['before its second work item', 'items/1.json'],
    ['before its manifest', 'manifest.jsonl'],
  ])('%s leaves nothing that looks like a batch, and the next one finishes', async (_when, key) => {
    const { bench, s3 } = services;
    await write(request('a'), { ...request('b'), document: `Second document ${content}.` });
    const rule = await s3.faults.add({
      key,
      operation: 'PutObject',
      times: 100,
      action: { kind: 'delay', ms: 60_000 },
    });
    const idempotencyKey = `killed ${key}`;
    const flags = ['--method', 'full', '--ranks', '1', '--new', '--idempotency-key', idempotencyKey];
    const child = spawnCli({ ...bench.config, modelDir }, ['submit', file, ...flags]);
    await bench.until(async () => ((await s3.faults.hits(rule)) > 0 ? true : undefined));
    child.kill('SIGKILL');
    await once(child, 'close');
    await s3.faults.clear();
    const before = (await listBatches(bench.deps)).map(({ id }) => id);
    const sent = await send({ isNew: true, idempotencyKey });
    expect(sent.created).toBe(true);
    expect(before).not.toContain(sent.id);
    expect((await getStatus(bench.deps, sent.id)).request_counts).toMatchObject({ total: 2, pending: 2 });
    bench.answering(answer);
    bench.aggregator();
    expect((await bench.ended(sent.id)).request_counts).toMatchObject({ answered: 2 });
  });
});
