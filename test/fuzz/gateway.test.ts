/** The gateway with its Redis and S3: uploads, bodies and queries that are damaged, and files of requests that mean nothing. */
import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { addKey } from '../../src/gateway/api-keys.js';
import { runGateway } from '../../src/gateway/gateway.js';
import { responses } from '../../src/gateway/schemas.js';
import { loadConfig, type Config } from '../../src/platform/config.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { writeRandomModel } from '../chaos/random-model.js';
import { startRedis, startS3, tempDir, type RedisService, type S3Service } from '../support/services.js';
import { chatLine, damaged, fuzz, graftedJson, TEST_MS } from './support.js';

const LIMITS = { requests_per_minute: 1e9, bytes_per_day: 2 ** 50, batches: 1e9 };
const VALIDATED_MS = 10_000;

let redis: RedisService;
let s3: S3Service;
let modelDir: string;
let config: Config;
let store: ObjectStore;
let url: string;
let secret: string;
let running: Promise<void>;
const stop = new AbortController();
/** What the gateway calls its own fault, or tries again. */
const faults: unknown[] = [];

beforeAll(async () => {
  modelDir = writeRandomModel(await tempDir('longhaul-fuzz-'), 1);
  [redis, s3] = await Promise.all([startRedis(), startS3()]);
  const flags = { redisUrl: redis.url, ...s3.settings, gatewayPort: 0, modelDir, ranks: 2, profile: 'fast' };
  config = loadConfig({ flags, environment: {}, directory: modelDir });
  store = new ObjectStore(config);
  ({ secret } = await addKey(store, 'fuzz', LIMITS));
  const logger = pino({ level: 'warn' }, { write: (line: string) => faults.push(JSON.parse(line)) });
  url = await new Promise<string>((resolve, reject) => {
    running = runGateway(config, logger, stop.signal, resolve);
    running.catch(reject);
  });
});
afterAll(async () => {
  stop.abort();
  await running;
  store.close();
  await Promise.all([redis.stop(), s3.stop()]);
  await rm(modelDir, { recursive: true });
});

interface Call {
  method: string;
  /** With its query. */
  path: string;
  headers?: [string, string][];
  body?: Buffer;
}

function written({ method, path, headers = [], body = Buffer.alloc(0) }: Call): Buffer {
  const head = [
    `${method} ${path} HTTP/1.1`,
    'host: fuzz',
    `authorization: Bearer ${secret}`,
    `content-length: ${body.length}`,
    ...headers.map(([name, value]) => `${name}: ${value.replace(/[^\x20-\x7e]/g, '?')}`),
    'connection: close',
    '',
    '',
  ];
  return Buffer.concat([Buffer.from(head.join('\r\n')), body]);
}

/** Sends the bytes as they are; what came back until the server closed, or nothing moved. `last`: no more will come. */
function speak({ bytes, last }: { bytes: Buffer; last: boolean }): Promise<{ status: number; text: string }> {
  return new Promise((done) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    let text = '';
    socket.setTimeout(1_500, () => socket.destroy());
    socket.on('data', (part) => {
      text += part.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => done({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0), text }));
    if (last) socket.end(bytes);
    else socket.write(bytes);
  });
}

const BOUNDARY = '--------fuzz';
const formType: [string, string] = ['content-type', `multipart/form-data; boundary=${BOUNDARY}`];
const part = (disposition: string, value: Buffer | string, type?: string): Buffer =>
  Buffer.concat([
    Buffer.from(`--${BOUNDARY}\r\ncontent-disposition: form-data; ${disposition}\r\n`),
    Buffer.from(type === undefined ? '\r\n' : `content-type: ${type}\r\n\r\n`),
    Buffer.from(value as string),
    Buffer.from('\r\n'),
  ]);
const form = (...parts: Buffer[]): Buffer => Buffer.concat([...parts, Buffer.from(`--${BOUNDARY}--\r\n`)]);
const file = (bytes: Buffer | string, name = 'a.jsonl'): Buffer =>
  part(`name="file"; filename="${name}"`, bytes, 'application/jsonl');
const purpose = part('name="purpose"', 'batch');

const lines = [
  chatLine('a'),
  { custom_id: 'b', document: 'Some text.', questions: ['One?', 'Two?'], metadata: { from: 'x' } },
  { custom_id: 'c', document: { path: '/etc/passwd' }, question: 'Why?' },
  { custom_id: 'd', document: { url: 'http://127.0.0.1:1/' }, question: 'Why?' },
  { custom_id: 'e', document: { url: 's3://longhaul-test/gateway/keys/a.json' }, question: 'Why?' },
];
const line = fc.oneof(
  { weight: 3, arbitrary: graftedJson(lines).map((text) => Buffer.from(text)) },
  {
    weight: 2,
    arbitrary: damaged(
      lines.map((value) => JSON.stringify(value)),
      ['\n', '\r\n', '\u2028', '\ufeff', '"', '\\ud800', '{', '}', '[['.repeat(500), Buffer.from([0xed])],
    ),
  },
);
const whole = fc.uniqueArray(fc.constantFrom(...lines.slice(0, 2)), { maxLength: 2 });
const jsonl = fc
  .tuple(whole, fc.array(line, { maxLength: 2 }))
  .map(([good, some]) => [...good.map((value) => JSON.stringify(value)), ...some])
  .map((some) =>
    Buffer.concat(some.map((one) => Buffer.concat([Buffer.from(one as string), Buffer.from('\n')]))),
  );
const filename = fc.oneof(
  fc.constantFrom('', '..', '../../x', '.', 'a'.repeat(400), 'ä\u{1f600}', '\u0000', '"', '%00', 'a/b', '\\'),
  fc.string({ maxLength: 12, unit: 'binary' }),
);

const forms = [
  form(purpose, file('{}\n')),
  form(
    file('{}\n{}\n'),
    purpose,
    part('name="expires_after[anchor]"', 'created_at'),
    part('name="expires_after[seconds]"', '3600'),
  ),
  form(purpose, part('name="file"; filename*=UTF-8\'\'a%20b', 'x', 'text/plain; charset=utf-16')),
];
const formWords = [
  '\r\n',
  '\r\n\r\n',
  `--${BOUNDARY}`,
  `--${BOUNDARY}--`,
  'name="__proto__"',
  'name="constructor"',
  'name="expires_after[__proto__]"',
  'filename=',
  "filename*=utf-16''%ff",
  'content-transfer-encoding: base64\r\n',
  'content-disposition:',
  'x: '.padEnd(20_000, 'y'),
  '\u0000',
  '";'.repeat(500),
];
const contentType = fc.constantFrom(
  formType[1],
  formType[1],
  formType[1],
  'multipart/form-data',
  'multipart/form-data; boundary=',
  `multipart/form-data; boundary=${'x'.repeat(300)}`,
  'multipart/mixed; boundary=a',
  'application/json',
  'application/x-www-form-urlencoded',
  'x',
  '',
);
const idempotencyKey = fc.constantFrom('', '', '', 'a', '../../x', 'x'.repeat(256), '{', '%', '?');
const withKey = (headers: [string, string][], key: string): [string, string][] =>
  key === '' ? headers : [...headers, ['idempotency-key', key]];

const upload: fc.Arbitrary<Call> = fc
  .tuple(damaged(forms, formWords), contentType, idempotencyKey)
  .map(([body, type, key]) => ({
    method: 'POST',
    path: '/v1/files',
    headers: withKey([['content-type', type]], key),
    body,
  }));

const asked = {
  input_file_id: `file-${'0'.repeat(32)}`,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
  metadata: { from: 'x' },
  output_expires_after: { anchor: 'created_at', seconds: 3600 },
};
const json: fc.Arbitrary<Call> = fc
  .tuple(
    fc.oneof(
      { weight: 3, arbitrary: graftedJson([asked]).map((text) => Buffer.from(text)) },
      {
        weight: 1,
        arbitrary: damaged(
          [JSON.stringify(asked)],
          ['"__proto__":{},', '"constructor":1,', '\\u0000', '1e999', '[['.repeat(9000)],
        ),
      },
    ),
    fc.constantFrom('application/json', 'application/json', 'application/json; charset=x', formType[1], ''),
    idempotencyKey,
  )
  .map(([body, type, key]) => ({
    method: 'POST',
    path: '/v1/batches',
    headers: withKey([['content-type', type]], key),
    body,
  }));

const id = fc.constantFrom(
  `file-${'0'.repeat(32)}`,
  `file-${'0'.repeat(32)}-output`,
  `batch_${'0'.repeat(32)}`,
  '..',
  '%2e%2e%2fkeys',
  '%00',
  '%zz',
  '__proto__',
  'x'.repeat(5000),
);
const value = fc.oneof(
  fc.constantFrom(
    '',
    '0',
    '1',
    '-1',
    '10001',
    '1e99',
    'NaN',
    'asc',
    'batch',
    `file-${'f'.repeat(32)}`,
    '%00',
  ),
  fc.string({ maxLength: 8 }).map((text) => encodeURIComponent(text)),
);
const query = fc
  .array(
    fc.tuple(fc.constantFrom('limit', 'after', 'order', 'purpose', 'x', '__proto__', 'limit[]'), value),
    {
      maxLength: 3,
    },
  )
  .map((pairs) => (pairs.length === 0 ? '' : `?${pairs.map(([name, of]) => `${name}=${of}`).join('&')}`));
const visit: fc.Arbitrary<Call> = fc
  .tuple(
    fc.constantFrom('GET', 'GET', 'DELETE', 'POST', 'HEAD', 'PUT', 'OPTIONS'),
    fc.oneof(
      fc.constantFrom('/v1/files', '/v1/batches', '/v1/', '/', '/openapi.json', '/readyz', '//v1/files'),
      id.map((one) => `/v1/files/${one}`),
      id.map((one) => `/v1/files/${one}/content`),
      id.map((one) => `/v1/batches/${one}`),
      id.map((one) => `/v1/batches/${one}/cancel`),
    ),
    query,
  )
  .map(([method, path, search]) => ({ method, path: path + search }));

/** Not before the gateway has its key. */
const raw = fc
  .constant(undefined)
  .chain(() =>
    damaged(
      [
        written({ method: 'GET', path: '/v1/files' }),
        written({ method: 'POST', path: '/v1/files', headers: [formType], body: forms[0] }),
      ],
      [
        '\r\n',
        '\r\n\r\n',
        ' HTTP/9.9',
        'transfer-encoding: chunked\r\n',
        'content-length: 99\r\n',
        '%zz',
        '\u0000',
      ],
    ),
  );
const anyCall = fc.oneof(
  // Node's server forgets its answer to whoever has nothing more to say.
  {
    weight: 9,
    arbitrary: fc.oneof(upload, json, visit).map((call) => () => ({ bytes: written(call), last: false })),
  },
  { weight: 1, arbitrary: raw.map((bytes) => () => ({ bytes, last: true })) },
);

const api = async (path: string, init: RequestInit = {}): Promise<unknown> => {
  const response = await fetch(url + path, {
    ...init,
    headers: { authorization: `Bearer ${secret}`, ...init.headers },
  });
  const answer = await response.json();
  expect(response.status, JSON.stringify(answer)).toBe(200);
  return answer;
};

/** A file that came whole becomes a batch or is refused with errors that stand in its lines. */
async function batchOf(bytes: Buffer, name: string): Promise<string> {
  const body = new FormData();
  body.append('purpose', 'batch');
  body.append('file', new Blob([new Uint8Array(bytes)]), name);
  const { id: input_file_id } = responses.File.parse(await api('/v1/files', { method: 'POST', body }));
  const made = await api('/v1/batches', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input_file_id, endpoint: asked.endpoint, completion_window: '24h' }),
  });
  const { id: batch } = responses.Batch.parse(made);
  for (const end = performance.now() + VALIDATED_MS; ;) {
    const found = responses.Batch.parse(await api(`/v1/batches/${batch}`));
    if (found.status !== 'validating') {
      expect(['failed', 'in_progress']).toContain(found.status);
      expect((found.errors?.data.length ?? 0) > 0).toBe(found.status === 'failed');
      const most = Math.max(1, bytes.filter((byte) => byte === 0x0a).length);
      for (const { line: at } of found.errors?.data ?? []) expect(at ?? 1).toBeLessThanOrEqual(most);
      // Of the files and the net around the gateway nothing can be learnt.
      expect(JSON.stringify(found.errors)).not.toMatch(/root:|ECONNREFUSED|ENOENT/);
      return found.status;
    }
    expect(performance.now(), `a batch of ${JSON.stringify(bytes.toString())}`).toBeLessThan(end);
  }
}

test(
  'the gateway',
  async () => {
    const seen = new Map<string | number, number>();
    const inputs = fc.record({
      calls: fc.array(anyCall, { minLength: 6, maxLength: 6 }),
      file: jsonl,
      name: filename,
    });
    await fuzz('the gateway', inputs, async ({ calls, file: bytes, name }) => {
      const answered = calls.map(async (call) => {
        const request = call();
        const { status, text } = await speak(request);
        seen.set(status, (seen.get(status) ?? 0) + 1);
        expect(status, `${text.slice(0, 500)}\nto ${request.bytes.toString('latin1')}`).toBeLessThan(500);
        expect(text.length).toBeLessThan(1_000_000);
      });
      const [status] = await Promise.all([batchOf(bytes, name), ...answered]);
      seen.set(status, (seen.get(status) ?? 0) + 1);
      expect(faults).toEqual([]);
    });
    console.log('fuzz the gateway:', [...seen].map(([of, times]) => `${of} ${times}`).join(', '));
    // Some got all the way through, some were refused: both ends were reached.
    for (const reached of [200, 400, 404, 'failed', 'in_progress'])
      expect(seen.get(reached) ?? 0, String(reached)).toBeGreaterThan(0);
  },
  TEST_MS,
);
