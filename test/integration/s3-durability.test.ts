import { randomBytes } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
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
  test('objects, metadata and checksums survive a restart', async () => {
    await put('a', 'body', { Metadata: { k: 'v' }, ContentType: 'text/plain' });
    await s3.restart();
    expect(await text('a')).toBe('body');
    const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'a', ChecksumMode: 'ENABLED' }));
    expect(head).toMatchObject({ Metadata: { k: 'v' }, ContentType: 'text/plain', ContentLength: 4 });
    expect(head.ChecksumCRC32).toBeDefined();
  });

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
  const partSize = 5 * 1024 * 1024;
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

  test('parts survive a restart, become one object, and completing again succeeds again', async () => {
    const bytes = randomBytes(2 * partSize + 12_345);
    const id = await start('big', { Metadata: { a: 'b' }, ContentType: 'application/x-test' });
    const one = await part('big', id, 1, bytes.subarray(0, partSize));
    await s3.kill9();
    await s3.restart();
    const two = await part('big', id, 2, bytes.subarray(partSize, 2 * partSize));
    await part('big', id, 3, randomBytes(10));
    const three = await part('big', id, 3, bytes.subarray(2 * partSize));
    const listed = await client.send(new ListPartsCommand({ Bucket, Key: 'big', UploadId: id }));
    expect(listed.Parts?.map((p) => [p.PartNumber, p.Size])).toEqual([
      [1, partSize],
      [2, partSize],
      [3, 12_345],
    ]);
    const uploads = await client.send(new ListMultipartUploadsCommand({ Bucket }));
    expect(uploads.Uploads?.map((u) => u.UploadId)).toEqual([id]);
    const etags = [one.ETag, two.ETag, three.ETag];
    const first = await complete('big', id, etags);
    expect(first.ETag).toMatch(/^"[0-9a-f]{32}-3"$/);
    expect((await complete('big', id, etags)).ETag).toBe(first.ETag);
    const reply = await client.send(new GetObjectCommand({ Bucket, Key: 'big' }));
    expect(Buffer.from((await reply.Body?.transformToByteArray()) ?? []).equals(bytes)).toBe(true);
    expect(reply).toMatchObject({ Metadata: { a: 'b' }, ContentType: 'application/x-test' });
    expect((await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? []).toEqual([]);
  });

  test('refused: small part, wrong ETag, wrong order, unknown upload; If-None-Match keeps the first', async () => {
    const id = await start('mp');
    const small = await part('mp', id, 1, randomBytes(100));
    const last = await part('mp', id, 2, randomBytes(100));
    expect(await failure(complete('mp', id, [small.ETag, last.ETag]))).toBe('EntityTooSmall');
    expect(await failure(complete('mp', id, ['"0123"']))).toBe('InvalidPart');
    const swapped = new CompleteMultipartUploadCommand({
      Bucket,
      Key: 'mp',
      UploadId: id,
      MultipartUpload: {
        Parts: [
          { ETag: last.ETag, PartNumber: 2 },
          { ETag: small.ETag, PartNumber: 1 },
        ],
      },
    });
    expect(await failure(client.send(swapped))).toBe('InvalidPartOrder');
    await put('mp', 'first');
    expect(await failure(complete('mp', id, [small.ETag], { IfNoneMatch: '*' }))).toBe('PreconditionFailed');
    expect(await text('mp')).toBe('first');
    await client.send(new AbortMultipartUploadCommand({ Bucket, Key: 'mp', UploadId: id }));
    expect(await failure(complete('mp', id, [small.ETag]))).toBe('NoSuchUpload');
    expect(await failure(part('mp', '../../..', 1, randomBytes(1)))).toBe('NoSuchUpload');
  });

  test('of several completions at the same time all report the one object', async () => {
    const id = await start('same');
    const { ETag } = await part('same', id, 1, randomBytes(1000));
    const replies = await Promise.all(Array.from({ length: 5 }, () => complete('same', id, [ETag])));
    expect(new Set(replies.map((r) => r.ETag)).size).toBe(1);
  });

  test('checksums of the whole object', async () => {
    const more = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' };
    const id = await start('sum', more);
    const { ETag } = await part('sum', id, 1, Buffer.from('123456789'));
    const wrong = Buffer.alloc(4).toString('base64');
    expect(
      await failure(complete('sum', id, [ETag], { ChecksumCRC32: wrong, ChecksumType: 'FULL_OBJECT' })),
    ).toBe('BadDigest');
    const ChecksumCRC32 = Buffer.from('cbf43926', 'hex').toString('base64');
    expect(
      (await complete('sum', id, [ETag], { ChecksumCRC32, ChecksumType: 'FULL_OBJECT' })).ChecksumCRC32,
    ).toBe(ChecksumCRC32);
    expect(await text('sum')).toBe('123456789');
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
