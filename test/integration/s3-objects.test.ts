import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type ChecksumAlgorithm,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startS3, tempDir, trackLeaks, type S3Service } from '../support/services.js';

let s3: S3Service;
let client: S3Client;
let Bucket: string;
trackLeaks();

beforeAll(async () => {
  s3 = await startS3();
  Bucket = s3.bucket;
  client = clientOf(s3);
});
afterAll(async () => {
  client?.destroy();
  await s3?.stop();
});

function clientOf(service: S3Service, credentials = service.credentials): S3Client {
  return new S3Client({
    endpoint: service.endpoint,
    region: service.region,
    forcePathStyle: true,
    credentials,
  });
}

const put = (Key: string, Body: string | Uint8Array | Readable, more: object = {}) =>
  client.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));
const read = async (Key: string, more: object = {}): Promise<Buffer> => {
  const reply = await client.send(new GetObjectCommand({ Bucket, Key, ...more }));
  return Buffer.from((await reply.Body?.transformToByteArray()) ?? []);
};
/** The error code and status with which S3 refused. */
async function refusal(promise: Promise<unknown>): Promise<{ code: string; status: number | undefined }> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(S3ServiceException);
  const refused = error as S3ServiceException;
  return { code: refused.name, status: refused.$metadata.httpStatusCode };
}

describe('bodies', () => {
  test('strings, buffers, empty bodies and streams come back byte for byte', async () => {
    const big = randomBytes(3_000_001);
    await put('text', 'grüße');
    await put('buffer', big);
    await put('empty', '');
    await put('stream', Readable.from([big.subarray(0, 7), big.subarray(7)]), { ContentLength: big.length });
    expect((await read('text')).toString()).toBe('grüße');
    expect((await read('buffer')).equals(big)).toBe(true);
    expect((await read('empty')).length).toBe(0);
    expect((await read('stream')).equals(big)).toBe(true);
  });

  test('a file stream is stored without the aws-chunked framing', async () => {
    const dir = await tempDir();
    try {
      const bytes = randomBytes(300_000);
      await writeFile(join(dir, 'file'), bytes);
      await client.send(
        new PutObjectCommand({
          Bucket,
          Key: 'file',
          Body: createReadStream(join(dir, 'file')),
          ContentEncoding: 'gzip',
        }),
      );
      const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'file' }));
      expect(head.ContentLength).toBe(300_000);
      expect(head.ContentEncoding).toBe('gzip');
      expect((await read('file')).equals(bytes)).toBe(true);
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  test('content type, headers and user metadata round-trip; the ETag is the MD5', async () => {
    const reply = await put('meta', 'x', {
      ContentType: 'application/jsonl; charset=utf-8',
      CacheControl: 'no-store',
      ContentDisposition: 'attachment; filename="a.txt"',
      Metadata: { sha256: 'abc', 'Mixed-Case': 'two  words' },
    });
    expect(reply.ETag).toBe(`"${createHash('md5').update('x').digest('hex')}"`);
    const head = await client.send(new HeadObjectCommand({ Bucket, Key: 'meta' }));
    expect(head).toMatchObject({
      ContentType: 'application/jsonl; charset=utf-8',
      CacheControl: 'no-store',
      ContentDisposition: 'attachment; filename="a.txt"',
      Metadata: { sha256: 'abc', 'mixed-case': 'two  words' },
      ETag: reply.ETag,
    });
    expect(head.LastModified?.getTime()).toBeGreaterThan(Date.now() - 60_000);
  });

  test('more than 2 KB of metadata is refused', async () => {
    const answer = await refusal(put('fat', 'x', { Metadata: { a: 'y'.repeat(2100) } }));
    expect(answer).toEqual({ code: 'MetadataTooLarge', status: 400 });
  });
});

describe('keys', () => {
  const keys = [
    'a/../../../etc/passwd',
    '../up',
    './here',
    'a//b/',
    '/leading',
    'space and+plus&amp;=?#%25',
    'quote"\'<>',
    'ünïcödé/文書/😀',
    'A',
    'a',
    'CON',
    'new\nline\ttab',
    'k'.repeat(1019),
    '😀'.repeat(250),
  ];
  test('any legal key works, and none leaves the folder', async () => {
    for (const key of keys) await put(`keys/${key}`, key);
    for (const key of keys) expect((await read(`keys/${key}`)).toString()).toBe(key);
    const listed = await client.send(
      new ListObjectsV2Command({ Bucket, Prefix: 'keys/', EncodingType: 'url' }),
    );
    const names = listed.Contents?.map((c) => decodeURIComponent(c.Key ?? '')) ?? [];
    const expected = keys.map((k) => `keys/${k}`);
    expect([...names].sort()).toEqual([...expected].sort());
    expect(
      names
        .map((n) => Buffer.from(n))
        .every((n, i, all) => i === 0 || Buffer.compare(all[i - 1] as Buffer, n) < 0),
    ).toBe(true);
  });

  test('a key of more than 1024 bytes is refused', async () => {
    expect(await refusal(put('k'.repeat(1025), 'x'))).toEqual({ code: 'KeyTooLongError', status: 400 });
  });

  test('missing key and missing bucket', async () => {
    expect(await refusal(read('nothing'))).toEqual({ code: 'NoSuchKey', status: 404 });
    expect(await refusal(client.send(new HeadObjectCommand({ Bucket, Key: 'nothing' })))).toMatchObject({
      status: 404,
    });
    expect(
      await refusal(client.send(new PutObjectCommand({ Bucket: 'no-bucket', Key: 'a', Body: '' }))),
    ).toEqual({
      code: 'NoSuchBucket',
      status: 404,
    });
  });
});

describe('checksums', () => {
  const algorithms: ChecksumAlgorithm[] = ['CRC32', 'CRC32C', 'SHA1', 'SHA256'];
  test.each(algorithms)('%s is verified by both sides', async (ChecksumAlgorithm) => {
    const bytes = randomBytes(100_003);
    await put(`sum-${ChecksumAlgorithm}`, bytes, { ChecksumAlgorithm });
    await put(`sum-stream-${ChecksumAlgorithm}`, Readable.from([bytes]), {
      ChecksumAlgorithm,
      ContentLength: bytes.length,
    });
    expect((await read(`sum-${ChecksumAlgorithm}`)).equals(bytes)).toBe(true);
    expect((await read(`sum-stream-${ChecksumAlgorithm}`)).equals(bytes)).toBe(true);
    const head = await client.send(
      new HeadObjectCommand({ Bucket, Key: `sum-stream-${ChecksumAlgorithm}`, ChecksumMode: 'ENABLED' }),
    );
    expect(head[`Checksum${ChecksumAlgorithm}` as 'ChecksumCRC32']).toMatch(/^[A-Za-z0-9+/]+=*$/);
  });

  test.each([
    ['ContentMD5', Buffer.alloc(16).toString('base64'), 'BadDigest'],
    ['ContentMD5', 'rubbish', 'InvalidDigest'],
    ['ChecksumCRC32', Buffer.alloc(4).toString('base64'), 'BadDigest'],
    ['ChecksumCRC32C', Buffer.alloc(4).toString('base64'), 'BadDigest'],
    ['ChecksumCRC64NVME', Buffer.alloc(8).toString('base64'), 'BadDigest'],
    ['ChecksumSHA1', Buffer.alloc(20).toString('base64'), 'BadDigest'],
    ['ChecksumSHA256', Buffer.alloc(32).toString('base64'), 'BadDigest'],
  ])('a wrong %s (%s) is refused with %s, and nothing is stored', async (name, value, code) => {
    const key = `wrong-${name}-${value.length}`;
    expect(await refusal(put(key, 'hello', { [name]: value }))).toEqual({ code, status: 400 });
    expect((await refusal(read(key))).code).toBe('NoSuchKey');
  });

  test('a right CRC64NVME is taken and given back', async () => {
    // The published check value of "123456789".
    const ChecksumCRC64NVME = Buffer.from('ae8b14860a799888', 'hex').toString('base64');
    const reply = await put('crc64', '123456789', { ChecksumCRC64NVME });
    expect(reply.ChecksumCRC64NVME).toBe(ChecksumCRC64NVME);
  });
});

describe('conditional writes', () => {
  test('of 20 racers with If-None-Match exactly one wins, and its bytes stay', async () => {
    for (let round = 0; round < 5; round++) {
      const key = `race-${round}`;
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) => put(key, `racer ${i}`, { IfNoneMatch: '*' })),
      );
      const winners = results.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []));
      expect(winners).toHaveLength(1);
      for (const r of results)
        if (r.status === 'rejected') expect((r.reason as S3ServiceException).name).toBe('PreconditionFailed');
      expect((await read(key)).toString()).toBe(`racer ${winners[0]}`);
    }
  });

  test('of 20 racers with If-Match on one version exactly one wins', async () => {
    const { ETag } = await put('match-race', 'first');
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => put('match-race', `racer ${i}`, { IfMatch: ETag })),
    );
    expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
  });

  test('If-None-Match: 412 when there, taken again after a delete; If-Match on a missing key is 404', async () => {
    await put('cond', '1', { IfNoneMatch: '*' });
    expect(await refusal(put('cond', '2', { IfNoneMatch: '*' }))).toEqual({
      code: 'PreconditionFailed',
      status: 412,
    });
    expect((await read('cond')).toString()).toBe('1');
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'cond' }));
    await put('cond', '3', { IfNoneMatch: '*' });
    expect(await refusal(put('cond-missing', 'x', { IfMatch: '"abc"' }))).toMatchObject({ status: 404 });
    expect(await refusal(put('cond', 'x', { IfMatch: '"abc"' }))).toMatchObject({ status: 412 });
  });
});

describe('reads', () => {
  const body = '0123456789';
  test.each([
    ['bytes=0-3', '0123', 'bytes 0-3/10'],
    ['bytes=4-', '456789', 'bytes 4-9/10'],
    ['bytes=-3', '789', 'bytes 7-9/10'],
    ['bytes=8-100', '89', 'bytes 8-9/10'],
    ['bytes=-100', body, 'bytes 0-9/10'],
  ])('range %s', async (Range, expected, ContentRange) => {
    await put('range', body);
    const reply = await client.send(new GetObjectCommand({ Bucket, Key: 'range', Range }));
    expect(await reply.Body?.transformToString()).toBe(expected);
    expect(reply.ContentRange).toBe(ContentRange);
    expect(reply.ContentLength).toBe(expected.length);
    expect(reply.$metadata.httpStatusCode).toBe(206);
  });

  test('a range outside is 416', async () => {
    await put('range', body);
    expect(await refusal(read('range', { Range: 'bytes=10-' }))).toEqual({
      code: 'InvalidRange',
      status: 416,
    });
    expect(await refusal(read('range', { Range: 'bytes=-0' }))).toEqual({
      code: 'InvalidRange',
      status: 416,
    });
  });

  test('conditional GET: 304 and 412', async () => {
    const { ETag } = await put('cget', body);
    expect((await read('cget', { IfMatch: ETag })).toString()).toBe(body);
    expect(await refusal(read('cget', { IfMatch: '"other"' }))).toMatchObject({ status: 412 });
    expect(await refusal(read('cget', { IfNoneMatch: ETag }))).toMatchObject({ status: 304 });
    expect((await read('cget', { IfNoneMatch: '"other"' })).toString()).toBe(body);
    expect(await refusal(read('cget', { IfModifiedSince: new Date(Date.now() + 5000) }))).toMatchObject({
      status: 304,
    });
    expect(await refusal(read('cget', { IfUnmodifiedSince: new Date(0) }))).toMatchObject({ status: 412 });
  });

  test('a reader keeps its version while the object is replaced and deleted', async () => {
    const first = randomBytes(8_000_000);
    await put('long', first);
    const reply = await client.send(new GetObjectCommand({ Bucket, Key: 'long' }));
    await put('long', 'short');
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'long' }));
    expect(Buffer.from((await reply.Body?.transformToByteArray()) ?? []).equals(first)).toBe(true);
  });
});

describe('copy and delete', () => {
  test('copy keeps or replaces metadata', async () => {
    await put('from/ä b', 'copied', { Metadata: { a: '1' }, ContentType: 'text/plain' });
    const CopySource = `${Bucket}/${encodeURIComponent('from/ä b')}`;
    await client.send(new CopyObjectCommand({ Bucket, Key: 'to', CopySource }));
    await client.send(
      new CopyObjectCommand({
        Bucket,
        Key: 'to2',
        CopySource,
        MetadataDirective: 'REPLACE',
        Metadata: { b: '2' },
      }),
    );
    const [one, two] = await Promise.all(
      ['to', 'to2'].map((Key) => client.send(new HeadObjectCommand({ Bucket, Key }))),
    );
    expect(one).toMatchObject({ Metadata: { a: '1' }, ContentType: 'text/plain', ContentLength: 6 });
    expect(two?.Metadata).toEqual({ b: '2' });
    expect((await read('to2')).toString()).toBe('copied');
    const missing = client.send(new CopyObjectCommand({ Bucket, Key: 'x', CopySource: `${Bucket}/none` }));
    expect(await refusal(missing)).toEqual({ code: 'NoSuchKey', status: 404 });
  });

  test('DeleteObjects, with keys that need escaping', async () => {
    const keys = ['del/1', 'del/<&>"', 'del/missing'];
    await put('del/1', '');
    await put('del/<&>"', '');
    const reply = await client.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }),
    );
    expect(reply.Deleted?.map((d) => d.Key).sort()).toEqual([...keys].sort());
    const left = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'del/' }));
    expect(left.KeyCount).toBe(0);
  });
});

describe('buckets', () => {
  test('create, list, head, delete', async () => {
    await client.send(new CreateBucketCommand({ Bucket: 'second-bucket' }));
    await client.send(new HeadBucketCommand({ Bucket: 'second-bucket' }));
    const { Buckets } = await client.send(new ListBucketsCommand({}));
    expect(Buckets?.map((b) => b.Name)).toEqual([Bucket, 'second-bucket']);
    expect(await refusal(client.send(new CreateBucketCommand({ Bucket: 'second-bucket' })))).toMatchObject({
      code: 'BucketAlreadyOwnedByYou',
    });
    expect(await refusal(client.send(new CreateBucketCommand({ Bucket: 'Bad_Name' })))).toMatchObject({
      code: 'InvalidBucketName',
    });
    await client.send(new PutObjectCommand({ Bucket: 'second-bucket', Key: 'a', Body: '' }));
    expect(await refusal(client.send(new DeleteBucketCommand({ Bucket: 'second-bucket' })))).toMatchObject({
      code: 'BucketNotEmpty',
    });
    await client.send(new DeleteObjectCommand({ Bucket: 'second-bucket', Key: 'a' }));
    await client.send(new DeleteBucketCommand({ Bucket: 'second-bucket' }));
    expect(await refusal(client.send(new HeadBucketCommand({ Bucket: 'second-bucket' })))).toMatchObject({
      status: 404,
    });
  });
});

describe('lists', () => {
  test('2500 keys in pages, with delimiter, start-after and max-keys', async () => {
    const list = new S3Client({
      endpoint: s3.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: s3.credentials,
    });
    const name = 'list-bucket';
    await list.send(new CreateBucketCommand({ Bucket: name }));
    const keys = Array.from(
      { length: 2500 },
      (_, i) => `k/${String(i % 50).padStart(2, '0')}/${String(i).padStart(4, '0')}`,
    );
    const queue = keys.values();
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (const Key of queue) await list.send(new PutObjectCommand({ Bucket: name, Key, Body: Key }));
      }),
    );
    const pages = async (more: object): Promise<{ keys: string[]; prefixes: string[]; pages: number }> => {
      const out = { keys: [] as string[], prefixes: [] as string[], pages: 0 };
      let ContinuationToken: string | undefined;
      do {
        const page = await list.send(new ListObjectsV2Command({ Bucket: name, ContinuationToken, ...more }));
        out.pages++;
        out.keys.push(...(page.Contents ?? []).map((c) => c.Key ?? ''));
        out.prefixes.push(...(page.CommonPrefixes ?? []).map((c) => c.Prefix ?? ''));
        ContinuationToken = page.NextContinuationToken;
        expect(page.IsTruncated).toBe(ContinuationToken !== undefined);
      } while (ContinuationToken !== undefined);
      return out;
    };
    const sorted = [...keys].sort();
    const all = await pages({});
    expect(all.keys).toEqual(sorted);
    expect(all.pages).toBe(3);
    expect(await pages({ Delimiter: '/', Prefix: 'k/' })).toEqual({
      keys: [],
      prefixes: Array.from({ length: 50 }, (_, i) => `k/${String(i).padStart(2, '0')}/`),
      pages: 1,
    });
    expect((await pages({ Delimiter: '/', Prefix: 'k/', MaxKeys: 7 })).prefixes).toHaveLength(50);
    expect((await pages({ Prefix: 'k/07/' })).keys).toEqual(sorted.filter((k) => k.startsWith('k/07/')));
    expect((await pages({ StartAfter: 'k/48/9', MaxKeys: 20 })).keys).toEqual(
      sorted.filter((k) => k > 'k/48/9'),
    );
    list.destroy();
  });
});

describe('who may ask', () => {
  test('wrong secret, unknown key, no signature', async () => {
    const wrong = clientOf(s3, { accessKeyId: s3.credentials.accessKeyId, secretAccessKey: 'wrong' });
    const unknown = clientOf(s3, { accessKeyId: 'nobody', secretAccessKey: 'x' });
    try {
      const get = new GetObjectCommand({ Bucket, Key: 'text' });
      expect(await refusal(wrong.send(get))).toEqual({ code: 'SignatureDoesNotMatch', status: 403 });
      expect(await refusal(unknown.send(get))).toEqual({ code: 'InvalidAccessKeyId', status: 403 });
      const answer = await fetch(`${s3.endpoint}/${Bucket}/text`);
      expect(answer.status).toBe(403);
      expect(await answer.text()).toContain('<Code>AccessDenied</Code>');
    } finally {
      wrong.destroy();
      unknown.destroy();
    }
  });

  test('a clock that is 20 minutes off is refused', async () => {
    const skewed = new S3Client({
      endpoint: s3.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: s3.credentials,
      systemClockOffset: 20 * 60_000,
      maxAttempts: 1,
    });
    // The SDK corrects its clock by the server's answer, but not before the first attempt has failed.
    expect(await refusal(skewed.send(new HeadBucketCommand({ Bucket })))).toMatchObject({ status: 403 });
    skewed.destroy();
  });

  test('what is not there is said to be not there', async () => {
    const answer = await client
      .send(new PutObjectCommand({ Bucket, Key: 'sse', Body: '', ServerSideEncryption: 'AES256' }))
      .catch((e: unknown) => (e as S3ServiceException).name);
    expect(answer).toBe('NotImplemented');
  });
});

test('an upload whose connection dies leaves nothing', async () => {
  const { connect } = await import('node:net');
  const { port } = new URL(s3.endpoint);
  const socket = connect(Number(port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write(`PUT /${Bucket}/half HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf`);
  socket.destroy();
  expect((await refusal(read('half'))).code).toBe('NoSuchKey');
});
