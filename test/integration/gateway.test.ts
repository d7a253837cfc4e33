/** OpenAI's client drives the whole life of a batch and its errors. The later tests have no cohort, so that batches wait. */
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createReadStream, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:https';
import { join, resolve } from 'node:path';
import OpenAI, { APIError } from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Limits } from '../../src/gateway/api-keys.js';
import { gatewayCommand } from '../../src/cli/gateway.js';
import { drawId, type BatchRecord } from '../../src/gateway/records.js';
import { responses } from '../../src/gateway/schemas.js';
import { toEnvironment, type Settings } from '../../src/platform/config.js';
import { gatewayKeys } from '../../src/platform/keys.js';
import { until } from '../chaos/cohort-support.js';
import { startCommand } from '../support/command.js';
import { watch } from '../support/leaks.js';
import { tempDir, trackLeaks } from '../support/services.js';
import {
  asked,
  chatLine,
  clientOf,
  contentOf,
  ended,
  jsonl,
  KEY,
  QUESTION,
  startStack,
  TEXT,
  upload,
  type Caller,
  type Process,
  type Stack,
} from './gateway-support.js';
import { runCommand } from './run-command.js';

const MB = 1024 ** 2;
const FILE_MOST = 96 * MB;

let stack: Stack;
let gateway: Process;
let folder: string;
let alice: OpenAI;
let secret: string;
let second: Caller, bob: Caller, pager: Caller, large: Caller, few: Caller, small: Caller, waiting: Caller;

beforeAll(async () => {
  [stack, folder] = await Promise.all([startStack(), tempDir('longhaul-gateway-test-')]);
  gateway = await stack.gateway({ gatewayFileMaxBytes: FILE_MOST });
  const owner = (name: string, limits?: Partial<Limits>) => clientOf(stack, gateway, name, limits);
  const found = await Promise.all([
    owner('alice'),
    owner('alice'),
    owner('bob'),
    owner('pager'),
    owner('large'),
    owner('few', { requests_per_minute: 4 }),
    owner('small', { bytes_per_day: 10_000 }),
    owner('waiting', { batches: 1 }),
  ]);
  [{ client: alice, secret }, second, bob, pager, large, few, small, waiting] = found;
});
afterAll(async () => {
  await stack?.close();
  await rm(folder, { recursive: true, force: true });
});
trackLeaks();

/** What OpenAI's client throws for it. */
async function refusal(work: Promise<unknown>): Promise<APIError> {
  const error: unknown = await work.then(
    () => new Error('was not refused'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof APIError)) throw error;
  return error;
}

test(
  'a batch from upload to answers, with every field that the client knows',
  { timeout: 60_000 },
  async () => {
    const path = join(folder, 'questions.jsonl');
    await writeFile(
      path,
      jsonl(chatLine('right'), chatLine('again'), { custom_id: 'own', document: TEXT, question: QUESTION }),
    );
    const file = await alice.files.create({ file: createReadStream(path), purpose: 'batch' });
    expect(responses.File.strict().parse(file)).toMatchObject({
      filename: 'questions.jsonl',
      bytes: readFileSync(path).length,
      purpose: 'batch',
    });
    expect(await alice.files.retrieve(file.id)).toEqual(file);
    expect(await contentOf(alice, file.id)).toBe(readFileSync(path, 'utf8'));

    const metadata = { project: 'contracts' };
    const output_expires_after = { anchor: 'created_at', seconds: 7200 } as const;
    const created = await alice.batches.create({ ...asked(file.id), metadata, output_expires_after });
    expect(created).toMatchObject({
      object: 'batch',
      input_file_id: file.id,
      metadata,
      completion_window: '24h',
    });
    expect(created.expires_at).toBe(created.created_at + 86_400);

    const batch = await ended(alice, created.id);
    expect(responses.Batch.strict().parse(batch)).toMatchObject({
      status: 'completed',
      errors: null,
      request_counts: { total: 3, completed: 3, failed: 0 },
      metadata,
      expires_at: created.expires_at,
    });
    const times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at];
    expect(times).toEqual([...times].sort((a, b) => (a ?? 0) - (b ?? 0)));
    const lines = (await contentOf(alice, batch.output_file_id)).trim().split('\n');
    const answers = lines.map(
      (line) => JSON.parse(line) as { custom_id: string; response: { body: OpenAI.ChatCompletion } },
    );
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(['right', 'again', 'own']);
    const body = answers[0]?.response.body;
    expect(body?.choices[0]?.message.content).toContain(KEY);
    expect(lines[2]).toContain('"format":"longhaul-outcome/1"');
    expect(await contentOf(alice, batch.error_file_id)).toBe('');
    expect(batch.usage?.total_tokens).toBe(
      (batch.usage?.input_tokens ?? 0) + (batch.usage?.output_tokens ?? 0),
    );
    expect(batch.usage?.input_tokens).toBeGreaterThan(100);

    const output = await alice.files.retrieve(batch.output_file_id ?? '');
    expect(output).toMatchObject({ purpose: 'batch_output', expires_at: (batch.completed_at ?? 0) + 7200 });
    const late = await refusal(alice.batches.cancel(batch.id));
    expect(late).toMatchObject({ status: 409, code: 'batch_ended' });

    expect(await alice.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true });
    await alice.files.delete(output.id);
    for (const id of [file.id, output.id])
      expect(await refusal(alice.files.content(id))).toMatchObject({ status: 404 });
    // Seen again, the batch does not bring its deleted file back.
    await alice.batches.retrieve(batch.id);
    expect(await refusal(alice.files.retrieve(output.id))).toMatchObject({ status: 404 });
  },
);

/** An example as a person runs it: its exit code and what it wrote. */
async function runExample(args: string[], environment: Record<string, string>) {
  const child = watch(
    spawn(process.execPath, args, { env: { PATH: process.env['PATH'], ...environment }, cwd: folder }),
  );
  let [out, err] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

test('the example in examples/openai-client answers', { timeout: 60_000 }, async () => {
  const text = join(folder, 'book.txt');
  await writeFile(text, TEXT);
  const { code, out, err } = await runExample([resolve('examples/openai-client/ask.js'), text, QUESTION], {
    OPENAI_BASE_URL: gateway.url,
    OPENAI_API_KEY: secret,
  });
  expect(code, err).toBe(0);
  expect(out).toMatch(new RegExp(`^question-1: .*${KEY}`));
});

test('the example in examples/bulk-qa asks every book of a folder, once', { timeout: 120_000 }, async () => {
  const books = join(folder, 'books');
  await mkdir(books);
  const other = '305281946652';
  await writeFile(join(books, 'a.txt'), TEXT);
  await writeFile(join(books, 'b.md'), TEXT.replaceAll(KEY, other));
  await writeFile(join(books, 'cover.jpg'), 'no book');
  await writeFile(join(folder, 'questions.txt'), `${QUESTION}\n\n`);
  const settings = {
    ...stack.s3.settings,
    redisUrl: stack.redis.url,
    modelDir: resolve('models/demo'),
    ranks: 2,
  };
  const ask = () =>
    runExample([resolve('examples/bulk-qa/ask.js'), 'books', 'questions.txt'], {
      ...toEnvironment(settings),
      HOME: process.env['HOME'] ?? '',
    });
  const first = await ask();
  expect(first.code, first.err).toBe(0);
  const cells = first.out
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t'));
  expect(cells).toEqual([
    ['a.txt', QUESTION, expect.stringContaining(KEY)],
    ['b.md', QUESTION, expect.stringContaining(other)],
  ]);
  const again = await ask();
  expect(again.out).toBe(first.out);
  expect(again.err).toContain('asked before');
});

test(
  'the example in examples/nightly-digest keeps a folder in S3 and prints a digest',
  { timeout: 120_000 },
  async () => {
    const documents = join(folder, 'documents');
    await mkdir(documents);
    await writeFile(join(documents, 'today.txt'), TEXT);
    await writeFile(join(documents, 'picture.png'), 'no text');
    const question = join(folder, 'question.txt');
    await writeFile(question, QUESTION);
    const settings: Partial<Settings> = {
      ...stack.s3.settings,
      redisUrl: stack.redis.url,
      modelDir: resolve('models/demo'),
      ranks: 2,
    };
    const scheduler = startCommand(['scheduler'], settings);
    try {
      const { code, out, err } = await runExample(
        [resolve('examples/nightly-digest/nightly.js'), documents, question],
        { ...toEnvironment({ ...settings, profile: 'fast' }), HOME: process.env['HOME'] ?? '' },
      );
      expect(code, err + scheduler.log.join('')).toBe(0);
      expect(out).toContain('1 new or changed documents');
      expect(out).toMatch(/^## `today\.txt`\n\n> .*/m);
      expect(out).toContain(KEY);
    } finally {
      await scheduler.stop();
    }
  },
);

test('a bad file fails its batch with the lines; what longhaul may not read is refused too', async () => {
  const text = jsonl(
    chatLine('same'),
    chatLine('same'),
    { ...chatLine('other model'), body: { ...chatLine('x').body, model: 'gpt-4o' } },
    { custom_id: 'file', document: { path: '/etc/passwd' }, question: 'Who?' },
  );
  const { id } = await alice.batches.create(asked(await upload(alice, text + 'no json\n')));
  const batch = await ended(alice, id);
  expect(batch).toMatchObject({ status: 'failed', output_file_id: null, error_file_id: null });
  expect(batch.failed_at).toBeGreaterThanOrEqual(batch.created_at);
  const told = batch.errors?.data?.map(({ line, param, code }) => [line, param, code]);
  expect(told).toEqual([
    [2, 'custom_id', 'invalid_request'],
    [3, 'body.model', 'invalid_request'],
    [4, 'document.path', 'invalid_request'],
    [5, 'line', 'invalid_json_line'],
  ]);
  const gone = await upload(alice, jsonl(chatLine('a')));
  await alice.files.delete(gone);
  expect(await refusal(alice.batches.create(asked(gone)))).toMatchObject({ status: 404, param: 'id' });
  expect(await ended(alice, (await alice.batches.create(asked(await upload(alice, '')))).id)).toMatchObject({
    status: 'failed',
    errors: { data: [{ code: 'invalid_file', line: null }] },
  });
});

test('a request that cannot be right is refused in OpenAI’s shape, naming the parameter', async () => {
  const file = await upload(alice, jsonl(chatLine('a')));
  const create = (more: object) => refusal(alice.batches.create({ ...asked(file), ...more }));
  expect(await create({ endpoint: '/v1/embeddings' })).toMatchObject({
    status: 400,
    param: 'endpoint',
    type: 'invalid_request_error',
  });
  expect(await create({ completion_window: 'soon' })).toMatchObject({
    status: 400,
    param: 'completion_window',
  });
  expect(await create({ prioritty: 1 })).toMatchObject({
    status: 400,
    param: 'prioritty',
    code: 'unknown_parameter',
  });
  expect(
    await create({ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) }),
  ).toMatchObject({ param: 'metadata' });
  const wrongPurpose = alice.files.create({ file: new File(['x'], 'x.jsonl'), purpose: 'fine-tune' });
  expect(await refusal(wrongPurpose)).toMatchObject({ status: 400, param: 'purpose' });
  expect(await refusal(alice.batches.retrieve('..%2Fkeys'))).toMatchObject({ status: 404 });
  expect(await refusal(alice.models.list().then())).toMatchObject({ status: 404, code: 'unknown_url' });
  const failed = await refusal(alice.batches.retrieve(drawId('batch_')));
  expect(failed.requestID).toMatch(/^req_/);
});

test('a key sees its own files and batches only; without a key, or with a revoked one, nothing', async () => {
  const file = await upload(alice, jsonl(chatLine('a')));
  const [batch] = (await alice.batches.list({ limit: 1 })).data;
  const bobs = bob.client;
  for (const work of [
    () => bobs.files.retrieve(file),
    () => bobs.files.content(file),
    () => bobs.files.delete(file),
    () => bobs.batches.create(asked(file)),
    () => bobs.batches.retrieve(batch?.id ?? ''),
    () => bobs.batches.cancel(batch?.id ?? ''),
  ]) {
    expect(await refusal(work())).toMatchObject({ status: 404 });
  }
  expect((await bobs.files.list()).data).toEqual([]);
  expect((await bobs.batches.list()).data).toEqual([]);
  expect((await second.client.files.retrieve(file)).id).toBe(file);

  const listed = await runCommand(stack.bench.config, gatewayCommand(), 'key', 'list', '--json');
  expect(JSON.parse(listed.stdout)).toContainEqual(expect.objectContaining({ id: bob.id, owner: 'bob' }));
  expect(listed.stdout).not.toContain(bob.secret);
  await runCommand(stack.bench.config, gatewayCommand(), 'key', 'revoke', bob.id);
  const after = await until('the revocation', 5_000, async () => {
    const error = await bobs.files.list().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return error instanceof OpenAI.AuthenticationError && error;
  });
  expect(after.code).toBe('invalid_api_key');
  expect((await fetch(`${gateway.url}/files`)).status).toBe(401);
  expect(gateway.log.join('')).not.toContain(bob.secret);
});

test('pages: newest first, by cursor, without gaps', async () => {
  const { files } = pager.client;
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.unshift(await upload(pager.client, jsonl(chatLine(String(i)))));
  const seen: string[] = [];
  for await (const file of files.list({ limit: 2 })) seen.push(file.id);
  expect(seen).toEqual(ids);
  const oldest = await files.list({ limit: 3, order: 'asc', after: ids[4] });
  expect(oldest.data.map(({ id }) => id)).toEqual([ids[3], ids[2], ids[1]]);
  expect((await files.list({ purpose: 'batch_output' })).data).toEqual([]);
});

/** A form as it comes over the wire, its bytes made on the way. */
function form(
  bytes: number,
  half: Promise<unknown> = Promise.resolve(),
): { body: ReadableStream<Uint8Array>; boundary: string; sent: () => number } {
  const boundary = 'boundary-of-the-test';
  const chunk = Buffer.alloc(MB, 'x');
  const head = `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n`;
  const tail = `\r\n--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--${boundary}--\r\n`;
  let left = bytes;
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(Buffer.from(head)),
    pull: async (controller) => {
      if (sent >= bytes / 2) await half;
      const next = chunk.subarray(0, Math.min(left, chunk.length));
      left -= next.length;
      sent += next.length;
      if (next.length > 0) controller.enqueue(next);
      if (left > 0) return;
      controller.enqueue(Buffer.from(tail));
      controller.close();
    },
  });
  return { body, boundary, sent: () => sent };
}

async function post(
  { body, boundary }: ReturnType<typeof form>,
  key: string,
  signal?: AbortSignal,
): Promise<Response> {
  const init = {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': `multipart/form-data; boundary=${boundary}` },
    body,
    duplex: 'half' as const,
    signal,
  };
  return fetch(`${gateway.url}/files`, init);
}

async function contentKeys(owner: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of stack.bench.store.list(gatewayKeys.content(owner, ''))) keys.push(key);
  return keys;
}

test(
  'files stream up and down: memory stays small, and what is cut short or too large leaves nothing',
  { timeout: 60_000 },
  async () => {
    const { secret: key, client } = large;
    const peak = () =>
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${gateway.child.pid}/status`, 'utf8'))?.[1]) * 1024;
    const before = peak();
    const response = await post(form(FILE_MOST), key);
    expect(response.status).toBe(200);
    const file = (await response.json()) as OpenAI.FileObject;
    expect(file).toMatchObject({ bytes: FILE_MOST, filename: 'big.jsonl' });
    let received = 0;
    for await (const chunk of (await client.files.content(file.id))
      .body as unknown as AsyncIterable<Uint8Array>)
      received += chunk.length;
    expect(received).toBe(FILE_MOST);
    expect(peak() - before).toBeLessThan(FILE_MOST - 16 * MB);

    const tooLarge = await post(form(FILE_MOST + 1), key);
    expect(tooLarge.status).toBe(413);
    expect(await tooLarge.json()).toMatchObject({
      error: { code: 'file_too_large', param: 'file' },
    });
    const cut = new AbortController();
    const halting = form(FILE_MOST, once(cut.signal, 'abort'));
    const aborted = post(halting, key, cut.signal).catch((error: unknown) => error);
    await until('half of it', 5_000, () => Promise.resolve(halting.sent() >= FILE_MOST / 2));
    cut.abort();
    expect(await aborted).toMatchObject({ name: 'AbortError' });
    await until('the end of the call that was cut short', 5_000, async () =>
      Promise.resolve(gateway.log.join('').includes('"status":400')),
    );
    expect(await contentKeys('large')).toHaveLength(1);
  },
);

test('limits of a key: requests, bytes, batches in flight', { timeout: 60_000 }, async () => {
  const tries = await Promise.all(
    Array.from({ length: 12 }, () =>
      few.client.files.list().then(
        () => undefined,
        (error: unknown) => error,
      ),
    ),
  );
  const limited = tries.find((error) => error instanceof OpenAI.RateLimitError);
  expect(limited).toMatchObject({ code: 'rate_limit_exceeded' });
  expect(Number(limited?.headers?.get('retry-after'))).toBeGreaterThan(0);

  await upload(small.client, 'x'.repeat(6_000));
  expect(await refusal(upload(small.client, 'x'.repeat(6_000)))).toMatchObject({
    status: 429,
    code: 'upload_limit_exceeded',
  });
  expect(await contentKeys('small')).toHaveLength(1);

  // From here on nothing is answered.
  await stack.bench.stopCohorts();
  const { client } = waiting;
  const file = await upload(client, jsonl(chatLine('a', TEXT + 'waiting')));
  const two = await Promise.allSettled([
    client.batches.create(asked(file)),
    client.batches.create(asked(file)),
  ]);
  expect(two.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(await refusal(client.batches.create(asked(file)))).toMatchObject({
    status: 429,
    code: 'batch_limit_exceeded',
  });
  const [{ id } = { id: '' }] = (await client.batches.list()).data;
  await client.batches.cancel(id);
  await ended(client, id);
  await client.batches.cancel((await client.batches.create(asked(file))).id);
});

test(
  'cancelled and expired batches end with their requests in the error file',
  { timeout: 60_000 },
  async () => {
    const file = await upload(alice, jsonl(chatLine('a', TEXT + 'never'), chatLine('b', TEXT + 'ever')));
    const soon = await alice.batches.create({ ...asked(file), completion_window: '3s' as '24h' });
    // At once, while its file may still be looked at.
    const hasty = await alice.batches.create(asked(file));
    expect(['cancelling', 'cancelled']).toContain((await alice.batches.cancel(hasty.id)).status);
    const patient = await alice.batches.create(asked(file));
    await until(
      'in_progress',
      10_000,
      async () => (await alice.batches.retrieve(patient.id)).status === 'in_progress',
    );
    expect(['cancelling', 'cancelled', 'finalizing']).toContain(
      (await alice.batches.cancel(patient.id)).status,
    );
    for (const { id } of [hasty, patient]) {
      const batch = await ended(alice, id);
      expect(batch).toMatchObject({
        status: 'cancelled',
        request_counts: { total: 2, completed: 0 },
        completed_at: null,
      });
      expect(batch.cancelled_at).toBeGreaterThanOrEqual(batch.cancelling_at ?? Infinity);
      expect(await contentOf(alice, batch.error_file_id)).toMatch(
        /"custom_id":"a".*batch_cancelled.*\n.*"custom_id":"b"/,
      );
    }
    const expired = await ended(alice, soon.id);
    expect(expired).toMatchObject({ status: 'expired', cancelled_at: null });
    expect(expired.expired_at).toBeGreaterThanOrEqual(expired.expires_at ?? Infinity);
    expect(await contentOf(alice, expired.error_file_id)).toContain('batch_expired');
  },
);

test('an Idempotency-Key stands for one batch and one file, also at the same time', async () => {
  const with_ = (key: string) => ({ headers: { 'Idempotency-Key': key } });
  const send = (text: string) =>
    alice.files.create({ file: new File([text], 'once.jsonl'), purpose: 'batch' }, with_('file-1'));
  const files = await Promise.all([send(jsonl(chatLine('once'))), send(jsonl(chatLine('once')))]);
  expect(files[0].id).toBe(files[1].id);
  expect(await contentOf(alice, files[0].id)).toBe(jsonl(chatLine('once')));
  expect(await refusal(send(jsonl(chatLine('other'))))).toMatchObject({
    status: 409,
    code: 'idempotency_conflict',
  });

  const create = (more: object = {}) =>
    alice.batches.create({ ...asked(files[0].id), ...more }, with_('batch-1'));
  const batches = await Promise.all([create(), create(), create()]);
  expect(new Set(batches.map(({ id }) => id)).size).toBe(1);
  expect(await refusal(create({ metadata: { a: 'b' } }))).toMatchObject({
    status: 409,
    code: 'idempotency_conflict',
  });
  await alice.batches.cancel(batches[0].id);
});

test(
  'a gateway that died after its promise, and a Redis that was emptied, lose nothing',
  { timeout: 60_000 },
  async () => {
    const { store, redis } = stack.bench;
    const input_file_id = await upload(alice, jsonl(chatLine('a', TEXT + 'promised')));
    const id = drawId('batch_');
    const created_at = Math.floor(Date.now() / 1000);
    const record: BatchRecord = {
      format: 'longhaul-gateway-batch/1',
      id,
      ...asked(input_file_id),
      metadata: null,
      created_at,
      expires_at: created_at + 86_400,
      output_expires_after: null,
    };
    await store.create(gatewayKeys.pending('alice', id), '{}\n');
    await store.create(gatewayKeys.batch('alice', id), JSON.stringify(record));
    await until(
      'in_progress',
      15_000,
      async () => (await alice.batches.retrieve(id)).status === 'in_progress',
    );
    await until(
      'the end of the promise',
      5_000,
      async () => !(await store.exists(gatewayKeys.pending('alice', id))),
    );
    await redis.flushall();
    expect(await alice.batches.retrieve(id)).toMatchObject({
      status: 'in_progress',
      request_counts: { total: 1 },
    });
    await alice.batches.cancel(id);
    expect(await ended(alice, id)).toMatchObject({ status: 'cancelled' });
  },
);

test('health tells the truth about Redis and S3', { timeout: 30_000 }, async () => {
  const base = gateway.url.replace('/v1', '');
  const ready = async () => {
    const response = await fetch(`${base}/readyz`);
    return { code: response.status, ...((await response.json()) as object) };
  };
  const all = { code: 200, status: 'ready', redis: true, s3: true };
  await until('readiness', 5_000, async () => (await ready()).code === 200);
  expect(await ready()).toEqual(all);
  await stack.redis.kill('SIGSTOP');
  await until('a word about Redis', 10_000, async () => (await ready()).code === 503);
  expect(await ready()).toMatchObject({ code: 503, status: 'unavailable', redis: false, s3: true });
  await stack.redis.kill('SIGCONT');
  await until('readiness', 10_000, async () => (await ready()).code === 200);
  process.kill(stack.s3.pid, 'SIGSTOP');
  await until('a word about S3', 10_000, async () => (await ready()).code === 503);
  expect(await ready()).toMatchObject({ redis: true, s3: false });
  expect((await fetch(`${base}/healthz`)).status).toBe(200);
  process.kill(stack.s3.pid, 'SIGCONT');
  await until('readiness', 10_000, async () => (await ready()).code === 200);
  expect(await (await fetch(`${base}/openapi.json`)).json()).toMatchObject({ openapi: '3.1.0' });
});

test('SIGTERM lets a call under way end, over TLS too', { timeout: 30_000 }, async () => {
  const pem = (name: string) => resolve(`test/fixtures/tls/${name}.pem`);
  const tls = await stack.gateway({ gatewayTlsCert: pem('certificate'), gatewayTlsKey: pem('key') });
  expect(tls.url).toMatch(/^https:/);
  const agent = new Agent({
    ca: readFileSync(pem('certificate')),
    servername: 'localhost',
    keepAlive: false,
  });
  const status = await new Promise((done, fail) => {
    get(
      `${tls.url.replace('/v1', '')}/healthz`,
      { agent, checkServerIdentity: () => undefined },
      (response) => {
        response.resume();
        done(response.statusCode);
      },
    ).on('error', fail);
  });
  expect(status).toBe(200);
  await tls.stop();
  expect(tls.child.exitCode).toBe(0);

  const rest = new EventEmitter();
  const halting = form(MB * 32, once(rest, 'send'));
  const answer = post(halting, secret);
  await until('half of it', 5_000, () => Promise.resolve(halting.sent() >= 16 * MB));
  gateway.child.kill('SIGTERM');
  await until('the drain', 5_000, () => Promise.resolve(gateway.log.join('').includes('shutting down')));
  rest.emit('send');
  expect((await answer).status).toBe(200);
  await once(gateway.child, 'exit');
  expect(gateway.child.exitCode).toBe(0);
  await expect(fetch(gateway.url)).rejects.toThrow('fetch failed');
});
