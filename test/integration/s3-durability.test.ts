import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, utimes, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  type S3ServiceException,
} from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startS3, trackLeaks, type S3Service } from '../support/services.js';

let s3: S3Service;
let client: S3Client;
let Bucket: string;
trackLeaks();
beforeEach(async () => {
  s3 = await startS3({ fsync: true });
  Bucket = s3.bucket;
  client = new S3Client({
    endpoint: s3.endpoint,
    region: s3.region,
    forcePathStyle: true,
    credentials: s3.credentials,
  });
});
afterEach(async () => {
  client.destroy();
  await s3.stop();
});

const put = (Key: string, Body: string | Uint8Array, more: object = {}) =>
  client.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));
const text = async (Key: string): Promise<string> =>
  (await (await client.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToString()) ?? '';
const failure = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (e: unknown) => (e as S3ServiceException).name,
  );

describe('what survives', () => {
  test('every acknowledged object survives kill -9 under load, and none is half there', async () => {
    const acknowledged = new Map<string, number>();
    let stop = false;
    const writer = async (w: number): Promise<void> => {
      const direct = new S3Client({
        endpoint: s3.endpoint,
        region: s3.region,
        forcePathStyle: true,
        credentials: s3.credentials,
        maxAttempts: 1,
      });
      for (let i = 0; !stop; i++) {
        const key = `load/${w}-${i}`;
        const body = randomBytes(1000 + ((i * 7919) % 60_000));
        const done = await direct
          .send(new PutObjectCommand({ Bucket, Key: key, Body: body }))
          .catch(() => undefined);
        if (!done) break;
        acknowledged.set(key, body.length);
      }
      direct.destroy();
    };
    const writers = Array.from({ length: 6 }, (_, w) => writer(w));
    while (acknowledged.size < 150) await new Promise((r) => setTimeout(r, 10));
    await s3.kill9();
    stop = true;
    await Promise.all(writers);
    await s3.restart();
    const listed = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'load/' }));
    const sizes = new Map(listed.Contents?.map((c) => [c.Key ?? '', c.Size]));
    for (const [key, size] of acknowledged) expect(sizes.get(key)).toBe(size);
    // Reading checks each body against its checksum.
    for (const key of sizes.keys()) await text(key);
    expect(await readdir(join(s3.dir, 'tmp'))).toEqual([]);
  });

  test('a file that is not an object is named, not served', async () => {
    await put('a', 'x');
    await s3.kill9();
    await writeFile(join(s3.dir, 'buckets', Bucket, 'objects', 'torn'), 'half a fi');
    await expect(s3.restart()).rejects.toThrow(/torn is not a sealed object file/);
  });

  test('a second server on the same folder is refused', async () => {
    await expect(startS3({ dir: s3.dir })).rejects.toThrow(/is served by process \d+ already/);
  });
});

describe('multipart', () => {
  const start = async (Key: string, more: object = {}): Promise<string> =>
    (await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }))).UploadId ?? '';
  const part = (Key: string, UploadId: string, PartNumber: number, Body: Uint8Array) =>
    client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body }));
  const complete = (Key: string, UploadId: string, parts: (string | undefined)[], more: object = {}) =>
    client.send(
      new CompleteMultipartUploadCommand({
        Bucket,
        Key,
        UploadId,
        MultipartUpload: { Parts: parts.map((ETag, i) => ({ ETag, PartNumber: i + 1 })) },
        ...more,
      }),
    );

  test('completing again succeeds again, also after a restart', async () => {
    const id = await start('again');
    const { ETag } = await part('again', id, 1, randomBytes(1000));
    const first = await complete('again', id, [ETag]);
    await s3.restart();
    expect((await complete('again', id, [ETag])).ETag).toBe(first.ETag);
  });

  test('of several completions at the same time all report the one object', async () => {
    const id = await start('same');
    const { ETag } = await part('same', id, 1, randomBytes(1000));
    const replies = await Promise.all(Array.from({ length: 5 }, () => complete('same', id, [ETag])));
    expect(new Set(replies.map((r) => r.ETag)).size).toBe(1);
  });
});

describe('faults', () => {
  test('503 bursts are retried by the SDK; the hits are counted', async () => {
    const id = await s3.faults.add({
      operation: 'PutObject',
      key: '^f/',
      times: 2,
      action: { kind: 'error' },
    });
    await put('g/other', 'x');
    expect(await s3.faults.hits(id)).toBe(0);
    await put('f/a', 'x');
    expect(await s3.faults.hits(id)).toBe(2);
    expect(await text('f/a')).toBe('x');
  });

  test('a reset before loses the write, a reset after has written it', async () => {
    const once = new S3Client({
      endpoint: s3.endpoint,
      region: s3.region,
      forcePathStyle: true,
      credentials: s3.credentials,
      maxAttempts: 1,
    });
    const tryPut = (Key: string) => failure(once.send(new PutObjectCommand({ Bucket, Key, Body: 'x' })));
    await s3.faults.add({ operation: 'PutObject', action: { kind: 'reset-before' } });
    expect(await tryPut('before')).not.toBe('none');
    expect(await failure(text('before'))).toBe('NoSuchKey');
    await s3.faults.add({ operation: 'PutObject', action: { kind: 'reset-after' } });
    expect(await tryPut('after')).not.toBe('none');
    expect(await text('after')).toBe('x');
    // What the lost reply looks like to a client that retries a conditional write.
    await s3.faults.add({ operation: 'PutObject', action: { kind: 'reset-after' } });
    expect(await failure(put('lost', 'x', { IfNoneMatch: '*' }))).toBe('PreconditionFailed');
    once.destroy();
  });

  test('delays, truncated replies, outages, and a store without conditional writes', async () => {
    await put('a', 'x'.repeat(1_000_000));
    await s3.faults.add({ operation: 'GetObject', action: { kind: 'delay', ms: 300 } });
    const before = Date.now();
    await text('a');
    expect(Date.now() - before).toBeGreaterThanOrEqual(300);
    await s3.faults.add({ operation: 'GetObject', action: { kind: 'truncate' } });
    expect(await failure(text('a'))).not.toBe('none');
    await s3.faults.set({ ignoreConditions: true });
    expect(await failure(put('a', 'y', { IfNoneMatch: '*' }))).toBe('none');
    await s3.faults.set({ outage: 'reset' });
    expect(await failure(text('a'))).not.toBe('none');
    await s3.faults.set({ outage: 'error' });
    expect(await failure(text('a'))).toBe('SlowDown');
    await s3.faults.clear();
    expect(await text('a')).toBe('y');
  });

  test('need the secret, and a rule that is understood', async () => {
    const post = (secret: string, body: string) =>
      fetch(`${s3.endpoint}/_faults`, {
        method: 'POST',
        headers: { authorization: `Bearer ${secret}` },
        body,
      });
    expect((await post('wrong', '{}')).status).toBe(403);
    expect((await post(s3.credentials.secretAccessKey, '{"action":{"kind":"explode"}}')).status).toBe(400);
  });
});

test('what our server does not do is said, not passed over', async () => {
  expect(await failure(put('sse', '', { ServerSideEncryption: 'AES256' }))).toBe('NotImplemented');
});

test('a restart drops uploads that nobody went on with for a week, and keeps others', async () => {
  const begin = async (Key: string): Promise<string> => {
    const { UploadId = '' } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }));
    await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: 'part' }));
    return UploadId;
  };
  const [old, recent] = [await begin('old'), await begin('recent')];
  const folder = join(s3.dir, 'buckets', Bucket, 'uploads');
  const days = (count: number) => Date.now() / 1000 - count * 24 * 3600;
  await utimes(join(folder, old), days(8), days(8));
  await utimes(join(folder, recent), days(6), days(6));
  await s3.restart();
  expect(await readdir(folder)).toEqual([recent]);
});

test('an upload whose connection dies leaves nothing', async () => {
  const socket = connect(Number(new URL(s3.endpoint).port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write(`PUT /${Bucket}/half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf`);
  socket.destroy();
  expect(await failure(text('half'))).toBe('NoSuchKey');
  expect(await readdir(join(s3.dir, 'tmp'))).toEqual([]);
});
