import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  CopyObjectCommand,
  DeleteBucketCommand,
  CreateBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  HeadBucketCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { tempDir } from '../support/services.js';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();

describe('bodies', () => {
  const big = randomBytes(3_000_001);
  test.each<[string, () => string | Uint8Array | Readable, Buffer]>([
    ['a string', () => 'grüße', Buffer.from('grüße')],
    ['no bytes', () => '', Buffer.alloc(0)],
    ['a buffer of 3 MB', () => big, big],
    ['a stream in uneven pieces', () => Readable.from([big.subarray(0, 7), big.subarray(7)]), big],
  ])('%s comes back byte for byte', async (name, body, bytes) => {
    const more = { ContentLength: bytes.length };
    await s3().put(name, body(), more);
    expect((await s3().read(name)).equals(bytes)).toBe(true);
  });

  test('a file stream is stored without the framing of its transfer', async () => {
    const dir = await tempDir();
    try {
      const bytes = randomBytes(300_000);
      await writeFile(join(dir, 'file'), bytes);
      await s3().put('file', createReadStream(join(dir, 'file')), { ContentEncoding: 'gzip' });
      const head = await s3().head('file');
      expect(head.ContentLength).toBe(300_000);
      expect(head.ContentEncoding).toBe('gzip');
      expect((await s3().read('file')).equals(bytes)).toBe(true);
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  test('the ETag is the MD5', async () => {
    const reply = await s3().put('etag', 'x');
    expect(reply.ETag).toBe(`"${createHash('md5').update('x').digest('hex')}"`);
    expect((await s3().head('etag')).ETag).toBe(reply.ETag);
  });

  test('content type and headers come back', async () => {
    const headers = {
      ContentType: 'application/jsonl; charset=utf-8',
      CacheControl: 'no-store',
      ContentDisposition: 'attachment; filename="a.txt"',
      ContentLanguage: 'de',
    };
    await s3().put('headers', 'x', headers);
    expect(await s3().head('headers')).toMatchObject(headers);
  });

  test('user metadata comes back, its names in lower case', async () => {
    await s3().put('meta', 'x', { Metadata: { sha256: 'abc', 'Mixed-Case': 'two  words' } });
    expect((await s3().head('meta')).Metadata).toEqual({ sha256: 'abc', 'mixed-case': 'two  words' });
  });

  test('more than 2 KB of metadata is refused', async () => {
    const answer = await refusal(s3().put('fat', 'x', { Metadata: { a: 'y'.repeat(2100) } }));
    expect(answer).toEqual({ code: 'MetadataTooLarge', status: 400 });
  });

  test('the time of the last change is now', async () => {
    await s3().put('now', 'x');
    const age = Date.now() - ((await s3().head('now')).LastModified?.getTime() ?? 0);
    expect(Math.abs(age)).toBeLessThan(60_000);
  });

  test('a reply can be given other headers', async () => {
    await s3().put('override', 'x', { ContentType: 'text/plain' });
    const reply = await s3().get('override', {
      ResponseContentType: 'text/x',
      ResponseCacheControl: 'max-age=1',
    });
    expect(reply).toMatchObject({ ContentType: 'text/x', CacheControl: 'max-age=1' });
  });

  test('writing again replaces all of it', async () => {
    await s3().put('again', 'first', { Metadata: { a: '1' } });
    await s3().put('again', 'second!');
    expect(await s3().head('again')).toMatchObject({ ContentLength: 7, Metadata: {} });
    expect((await s3().read('again')).toString()).toBe('second!');
  });

  test('a reader keeps its version while the object is replaced and deleted', async () => {
    const first = randomBytes(8_000_000);
    await s3().put('long', first);
    const reply = await s3().get('long');
    await s3().put('long', 'short');
    await s3().delete('long');
    expect(Buffer.from((await reply.Body?.transformToByteArray()) ?? []).equals(first)).toBe(true);
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
    "!*'();:@,$[]{}|\\^`~",
    'ünïcödé/文書/😀',
    'A',
    'a',
    'CON',
    'new\nline\ttab',
    '😀'.repeat(240),
  ];
  test.each(keys)('%j is a key like any other', async (key) => {
    await s3().put(`keys/${key}`, key);
    expect((await s3().read(`keys/${key}`)).toString()).toBe(key);
    const Prefix = s3().key(`keys/${key}`);
    const listed = await s3().client.send(
      new ListObjectsV2Command({ Bucket: s3().bucket, Prefix, EncodingType: 'url' }),
    );
    expect(decodeURIComponent((listed.Contents?.[0]?.Key ?? '').replace(/\+/g, ' '))).toBe(Prefix);
  });

  test('a key of 1024 bytes is taken, one of 1025 is refused', async () => {
    const rest = 1024 - s3().prefix.length;
    await s3().put('k'.repeat(rest), 'x');
    expect((await s3().read('k'.repeat(rest))).toString()).toBe('x');
    expect(await refusal(s3().put('k'.repeat(rest + 1), 'x'))).toEqual({
      code: 'KeyTooLongError',
      status: 400,
    });
  });

  test('a key that is not there', async () => {
    expect(await refusal(s3().read('nothing'))).toEqual({ code: 'NoSuchKey', status: 404 });
    expect(await refusal(s3().head('nothing'))).toMatchObject({ status: 404 });
  });
});

describe('ranges', () => {
  const body = '0123456789';
  test.each([
    ['bytes=0-3', '0123', 'bytes 0-3/10'],
    ['bytes=4-', '456789', 'bytes 4-9/10'],
    ['bytes=-3', '789', 'bytes 7-9/10'],
    ['bytes=8-100', '89', 'bytes 8-9/10'],
    ['bytes=-100', body, 'bytes 0-9/10'],
  ])('%s', async (Range, expected, ContentRange) => {
    await s3().put('range', body);
    const reply = await s3().get('range', { Range });
    expect(await reply.Body?.transformToString()).toBe(expected);
    expect(reply.ContentRange).toBe(ContentRange);
    expect(reply.ContentLength).toBe(expected.length);
    expect(reply.$metadata.httpStatusCode).toBe(206);
  });

  test.each(['bytes=10-', 'bytes=-0'])('%s is outside: 416', async (Range) => {
    await s3().put('range', body);
    expect(await refusal(s3().read('range', { Range }))).toEqual({ code: 'InvalidRange', status: 416 });
  });

  test('one that is not understood gives the whole object', async () => {
    await s3().put('range', body);
    const reply = await s3().get('range', { Range: 'bytes=7-3' });
    expect([reply.$metadata.httpStatusCode, await reply.Body?.transformToString()]).toEqual([200, body]);
  });

  test('ranges of a large object are its bytes', async () => {
    const bytes = randomBytes(2_000_000);
    await s3().put('large', bytes);
    const cuts = [0, 1, 65_536, 999_999, 2_000_000];
    const parts = await Promise.all(
      cuts.slice(1).map((end, i) => s3().read('large', { Range: `bytes=${cuts[i]}-${end - 1}` })),
    );
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  });
});

describe('copy and delete', () => {
  test('a copy has the bytes and the metadata', async () => {
    await s3().put('from/ä b', 'copied', { Metadata: { a: '1' }, ContentType: 'text/plain' });
    const CopySource = `${s3().bucket}/${encodeURIComponent(s3().key('from/ä b'))}`;
    await s3().client.send(new CopyObjectCommand({ Bucket: s3().bucket, Key: s3().key('to'), CopySource }));
    expect(await s3().head('to')).toMatchObject({ Metadata: { a: '1' }, ContentType: 'text/plain' });
    expect((await s3().read('to')).toString()).toBe('copied');
  });

  test('a copy can have other metadata', async () => {
    await s3().put('source', 'copied', { Metadata: { a: '1' } });
    const copy = {
      Bucket: s3().bucket,
      Key: s3().key('to2'),
      CopySource: `${s3().bucket}/${s3().key('source')}`,
    };
    await s3().client.send(
      new CopyObjectCommand({ ...copy, MetadataDirective: 'REPLACE', Metadata: { b: '2' } }),
    );
    expect((await s3().head('to2')).Metadata).toEqual({ b: '2' });
  });

  test('a copy of nothing, and one onto itself that changes nothing, are refused', async () => {
    await s3().put('self', 'x');
    const copy = (from: string) =>
      s3().client.send(
        new CopyObjectCommand({
          Bucket: s3().bucket,
          Key: s3().key('self'),
          CopySource: `${s3().bucket}/${s3().key(from)}`,
        }),
      );
    expect(await refusal(copy('none'))).toEqual({ code: 'NoSuchKey', status: 404 });
    expect(await refusal(copy('self'))).toEqual({ code: 'InvalidRequest', status: 400 });
  });

  test('deleting twice is no error', async () => {
    await s3().put('gone', 'x');
    for (let i = 0; i < 2; i++) expect((await s3().delete('gone')).$metadata.httpStatusCode).toBe(204);
    expect(await refusal(s3().head('gone'))).toMatchObject({ status: 404 });
  });

  test('many are deleted at once, with keys that need escaping', async () => {
    const keys = ['del/1', 'del/<&>"', 'del/missing'].map((name) => s3().key(name));
    await s3().put('del/1', '');
    await s3().put('del/<&>"', '');
    const Delete = { Objects: keys.map((Key) => ({ Key })) };
    const reply = await s3().client.send(new DeleteObjectsCommand({ Bucket: s3().bucket, Delete }));
    expect(reply.Deleted?.map((d) => d.Key).sort()).toEqual([...keys].sort());
    const left = await s3().client.send(
      new ListObjectsV2Command({ Bucket: s3().bucket, Prefix: s3().key('del/') }),
    );
    expect(left.KeyCount).toBe(0);
  });

  test('more than a thousand at once are refused', async () => {
    const Objects = Array.from({ length: 1001 }, (_, i) => ({ Key: s3().key(`none/${i}`) }));
    const command = new DeleteObjectsCommand({ Bucket: s3().bucket, Delete: { Objects } });
    expect(await refusal(s3().client.send(command))).toEqual({ code: 'MalformedXML', status: 400 });
  });
});

describe('buckets', () => {
  test('are created, listed, found and deleted', async (context) => {
    const Bucket = await s3().otherBucket(context);
    const { client } = s3();
    await client.send(new HeadBucketCommand({ Bucket }));
    const { Buckets } = await client.send(new ListBucketsCommand({}));
    expect(Buckets?.map((b) => b.Name)).toContain(Bucket);
    await client.send(new DeleteBucketCommand({ Bucket }));
    expect(await refusal(client.send(new HeadBucketCommand({ Bucket })))).toMatchObject({ status: 404 });
  });

  test('one that is there is not made anew', async (context) => {
    const Bucket = await s3().otherBucket(context);
    const { client } = s3();
    await client.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'kept' }));
    // In its first region S3 answers with success, elsewhere with 409.
    const again = await client.send(new CreateBucketCommand({ Bucket })).catch((e: unknown) => e);
    if (again instanceof S3ServiceException) expect(again.name).toBe('BucketAlreadyOwnedByYou');
    const listed = await client.send(new ListObjectsV2Command({ Bucket }));
    expect(listed.KeyCount).toBe(1);
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'a' }));
    await client.send(new DeleteBucketCommand({ Bucket }));
  });

  test('one that is not empty is not deleted', async (context) => {
    const Bucket = await s3().otherBucket(context);
    const { client } = s3();
    await client.send(new PutObjectCommand({ Bucket, Key: 'a', Body: '' }));
    expect(await refusal(client.send(new DeleteBucketCommand({ Bucket })))).toEqual({
      code: 'BucketNotEmpty',
      status: 409,
    });
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'a' }));
    await client.send(new DeleteBucketCommand({ Bucket }));
  });

  test('a name that is none, and a bucket that is not there', async () => {
    const { client } = s3();
    const put = new PutObjectCommand({ Bucket: 'longhaul-suite-no-such-bucket', Key: 'a', Body: '' });
    expect(await refusal(client.send(put))).toEqual({ code: 'NoSuchBucket', status: 404 });
    const named = new CreateBucketCommand({ Bucket: 'Bad_Name' });
    expect(await refusal(client.send(named))).toMatchObject({ code: 'InvalidBucketName' });
  });
});
