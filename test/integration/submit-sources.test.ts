import { once } from 'node:events';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readManifest } from '../../src/batch/manifest.js';
import { loadConfig } from '../../src/platform/config.js';
import { InputError } from '../../src/platform/errors.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { createRedis } from '../../src/platform/redis.js';
import { submit } from '../../src/producer/submit.js';
import { sourcePolicy } from '../../src/text/source-policy.js';
import {
  startRedis,
  startS3,
  tempDir,
  trackLeaks,
  type RedisService,
  type S3Service,
} from '../support/services.js';

let redisService: RedisService;
let s3: S3Service;
let redis: Redis;
let store: ObjectStore;
let directory: string;
let web: Server;
let base: string;
trackLeaks();

beforeAll(async () => {
  [redisService, s3] = await Promise.all([startRedis(), startS3()]);
  directory = await tempDir('longhaul-sources-');
  await cp(fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url)), join(directory, 'model'), {
    recursive: true,
  });
  await writeFile(join(directory, 'model/model.safetensors'), 'weights');
  const config = configOf({});
  store = new ObjectStore(config);
  redis = createRedis(config.redisUrl, 'command');
  web = createServer((request, response) => {
    const html = { 'content-type': 'text/html' };
    if (request.url === '/page')
      response.writeHead(200, html).end('<script>x</script><h1>Same <i>text</i></h1>');
    else if (request.url === '/moved') response.writeHead(302, { location: '/page' }).end();
    else if (request.url === '/paper')
      response.writeHead(200, { 'content-type': 'application/pdf' }).end('%PDF');
    else response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await once(web, 'listening');
  base = `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
});
afterAll(async () => {
  web?.close();
  redis?.disconnect();
  store?.close();
  await redisService?.stop();
  await s3?.stop();
  await rm(directory, { recursive: true });
});

function configOf(flags: Record<string, unknown>) {
  const settings = { ...s3.settings, redisUrl: redisService.url, documentHttp: true };
  return loadConfig({ flags: { ...settings, ...flags }, environment: {}, directory });
}

async function send(documents: unknown[], flags: Record<string, unknown> = {}) {
  const file = join(directory, 'requests.jsonl');
  const lines = documents.map((document, i) =>
    JSON.stringify({ custom_id: `${i + 1}`, document, question: 'why?' }),
  );
  await writeFile(file, lines.join('\n'));
  const modelDir = join(directory, 'model');
  const policy = sourcePolicy(configOf(flags));
  return submit({ store, redis }, { file, policy, modelDir, options: { method: 'apb', ranks: 2 } });
}
async function problems(documents: unknown[], flags: Record<string, unknown> = {}): Promise<string[]> {
  const error = await send(documents, flags).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).problems.map(({ line, field, message }) => `${line} ${field} ${message}`);
}

test('the same text from the web, a file and a line is one document', async () => {
  await writeFile(join(directory, 'page.md'), '# Same *text*');
  const { id, totals } = await send([
    { url: `${base}/page` },
    { url: `${base}/moved` },
    { path: 'page.md' },
    '# Same text',
    { url: `${base}/page`, format: 'text' },
  ]);
  expect(totals).toMatchObject({ requests: 5, documents: 2 });
  const { requests } = await readManifest(store, id);
  const hashes = requests.map(({ document }) => document.sha256);
  expect(new Set(hashes.slice(0, 4)).size).toBe(1);
  expect(hashes[4]).not.toBe(hashes[0]);
});

test('bad sources are listed with their lines, and nothing is enqueued', async () => {
  const before = await redis.keys('*');
  const found = await problems([
    'fine',
    { url: `${base}/absent` },
    { url: `${base}/paper` },
    { path: 'absent.txt' },
  ]);
  expect(found).toEqual([
    `2 document.url ${base}/absent answers 404 Not Found`,
    `3 document.url ${base}/paper is application/pdf; only text, Markdown and HTML are read. Convert it first`,
    expect.stringMatching(/^4 document.path .*absent.txt does not exist/),
  ]);
  expect(await redis.keys('*')).toEqual(before);
});

test('a service reads neither the private network, nor files outside of its root, nor other buckets', async () => {
  await mkdir(join(directory, 'root'), { recursive: true });
  await writeFile(join(directory, 'root/a.txt'), 'fine');
  const documents = [
    { url: `${base}/page` },
    { path: 'root/a.txt' },
    { path: 'page.md' },
    { url: 's3://longhaul-test/x' },
  ];
  const service = { service: true, documentRoot: join(directory, 'root') };
  expect(await problems(documents, service)).toEqual([
    expect.stringMatching(/^1 document.url .* has no public address/),
    '3 document.path page.md is outside of the folder that documents may be in',
    "4 document.url s3://longhaul-test/x is not in this service's documentBuckets",
  ]);
  expect(await problems([{ path: 'root/a.txt' }], { service: true })).toEqual([
    '1 document.path root/a.txt is a file; this service reads none, because no documentRoot is set',
  ]);
  await send([{ path: 'root/a.txt' }, { url: `${base}/page` }], { ...service, documentHosts: '127.0.0.1' });
});
