import { createHash, randomBytes } from 'node:crypto';
import {
  GetObjectCommand,
  HeadBucketCommand,
  PutObjectCommand,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { presign, send, sign, signedChunks } from './raw.js';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();
const minutes = (n: number) => new Date(Date.now() + n * 60_000);

describe('who asks', () => {
  const get = async (change: S3ClientConfig) => {
    await s3().put('text', 'x');
    const client = s3().connect({ maxAttempts: 1, ...change });
    try {
      return await refusal(client.send(new GetObjectCommand({ Bucket: s3().bucket, Key: s3().key('text') })));
    } finally {
      client.destroy();
    }
  };
  test('a wrong secret is refused', async () => {
    const credentials = { accessKeyId: s3().at.credentials.accessKeyId, secretAccessKey: 'wrong' };
    expect(await get({ credentials })).toEqual({ code: 'SignatureDoesNotMatch', status: 403 });
  });
  test('an unknown key is refused', async () => {
    const credentials = { accessKeyId: 'NOBODYKNOWSTHISKEY00', secretAccessKey: 'x' };
    expect(await get({ credentials })).toEqual({ code: 'InvalidAccessKeyId', status: 403 });
  });
  test('a request without a signature is refused', async () => {
    await s3().put('text', 'x');
    const answer = await fetch(`${s3().at.endpoint}/${s3().bucket}/${s3().key('text')}`);
    expect(answer.status).toBe(403);
    expect(await answer.text()).toContain('<Code>AccessDenied</Code>');
  });
  test('another region is refused', async () => {
    const answer = await get({ region: 'xx-nowhere-1' });
    expect(answer).toEqual({ code: 'AuthorizationHeaderMalformed', status: 400 });
  });
  test.each([-20, 20])('a clock that is %i minutes off is refused', async (off) => {
    const client = s3().connect({ maxAttempts: 1, systemClockOffset: off * 60_000 });
    try {
      // The SDK corrects its clock by the server's answer, but not before the first attempt has failed.
      const put = new PutObjectCommand({ Bucket: s3().bucket, Key: s3().key('late'), Body: '' });
      expect(await refusal(client.send(put))).toEqual({ code: 'RequestTimeTooSkewed', status: 403 });
      const wrong = await sign(s3(), { method: 'GET', name: 'text' }, { signingDate: minutes(off) });
      expect((await send(wrong)).code).toBe('RequestTimeTooSkewed');
    } finally {
      client.destroy();
    }
  });
  test('a clock that is 5 minutes off is not', async () => {
    const client = s3().connect({ systemClockOffset: 5 * 60_000 });
    try {
      await client.send(new HeadBucketCommand({ Bucket: s3().bucket }));
    } finally {
      client.destroy();
    }
  });
  test('a signed request that was changed on its way is refused', async () => {
    await s3().put('one', '1');
    const head = await sign(s3(), { method: 'GET', name: 'one' });
    expect((await send(head)).body).toBe('1');
    expect((await send({ ...head, path: `${head.path}x` })).code).toBe('SignatureDoesNotMatch');
    expect((await send({ ...head, method: 'DELETE' })).code).toBe('SignatureDoesNotMatch');
    expect((await send({ ...head, query: { versionId: 'x' } })).status).toBeGreaterThanOrEqual(400);
    expect((await s3().read('one')).toString()).toBe('1');
  });
  test('a body that is not the signed one is refused', async () => {
    const sha256 = createHash('sha256').update('right').digest('hex');
    const head = await sign(s3(), {
      method: 'PUT',
      name: 'body',
      headers: { 'x-amz-content-sha256': sha256 },
    });
    expect(await send(head, Buffer.from('wrong'))).toMatchObject({
      status: 400,
      code: 'XAmzContentSHA256Mismatch',
    });
    expect((await send(head, Buffer.from('right'))).status).toBe(200);
  });
});

describe('presigned URLs', () => {
  test('read', async () => {
    await s3().put('shared/ä b+c', 'shared');
    const link = await presign(s3(), { method: 'GET', name: 'shared/ä b+c' }, { expiresIn: 60 });
    expect(await send(link)).toMatchObject({ status: 200, body: 'shared' });
  });
  test('write', async () => {
    const link = await presign(s3(), { method: 'PUT', name: 'given' }, { expiresIn: 60 });
    expect((await send(link, Buffer.from('from outside'))).status).toBe(200);
    expect((await s3().read('given')).toString()).toBe('from outside');
  });
  test('carry further parameters', async () => {
    await s3().put('typed', 'x');
    const query = { 'response-content-type': 'text/x' };
    const link = await presign(s3(), { method: 'GET', name: 'typed', query }, { expiresIn: 60 });
    expect((await send(link)).status).toBe(200);
    const changed = { ...link, query: { ...link.query, 'response-content-type': 'text/y' } };
    expect(await send(changed)).toMatchObject({ status: 403, code: 'SignatureDoesNotMatch' });
  });
  test('end when they say', async () => {
    await s3().put('brief', 'x');
    const link = await presign(
      s3(),
      { method: 'GET', name: 'brief' },
      { expiresIn: 60, signingDate: minutes(-2) },
    );
    expect(await send(link)).toMatchObject({ status: 403, code: 'AccessDenied' });
    const good = await presign(
      s3(),
      { method: 'GET', name: 'brief' },
      { expiresIn: 300, signingDate: minutes(-2) },
    );
    expect((await send(good)).status).toBe(200);
  });
  test('are for one method, one key and one secret', async () => {
    await s3().put('only', 'x');
    const link = await presign(s3(), { method: 'GET', name: 'only' }, { expiresIn: 60 });
    expect((await send({ ...link, method: 'DELETE' })).code).toBe('SignatureDoesNotMatch');
    expect((await send({ ...link, path: `${link.path}2` })).code).toBe('SignatureDoesNotMatch');
    const credentials = { accessKeyId: s3().at.credentials.accessKeyId, secretAccessKey: 'wrong' };
    const client = s3().connect({ credentials });
    const forged = await presign(s3(), { method: 'GET', name: 'only' }, { expiresIn: 60, client });
    client.destroy();
    expect((await send(forged)).code).toBe('SignatureDoesNotMatch');
  });
  test('that claim more than a week are refused', async () => {
    const link = await presign(s3(), { method: 'GET', name: 'only' }, { expiresIn: 60 });
    const query = { ...link.query, 'X-Amz-Expires': '604801' };
    expect(await send({ ...link, query })).toMatchObject({
      status: 400,
      code: 'AuthorizationQueryParametersError',
    });
  });
});

describe('bodies in chunks', () => {
  const bytes = randomBytes(150_000);
  const chunks = [bytes.subarray(0, 65_536), bytes.subarray(65_536, 131_072), bytes.subarray(131_072)];
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(bytes));
  const crc = { 'x-amz-checksum-crc32': sum.toString('base64') };
  const head = (name: string, payload: string, trailer?: string) =>
    sign(s3(), {
      method: 'PUT',
      name,
      headers: {
        'x-amz-content-sha256': payload,
        'x-amz-decoded-content-length': String(bytes.length),
        'content-encoding': 'aws-chunked',
        ...(trailer !== undefined && { 'x-amz-trailer': trailer }),
      },
    });
  const signed = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD';

  test('with a signature each', async () => {
    const request = await head('chunks', signed);
    expect((await send(request, signedChunks(s3(), request, chunks))).status).toBe(200);
    expect((await s3().read('chunks')).equals(bytes)).toBe(true);
    expect((await s3().head('chunks')).ContentEncoding ?? '').toBe('');
  });
  test('with one byte changed are refused, and nothing is stored', async () => {
    const request = await head('changed', signed);
    const body = signedChunks(s3(), request, chunks);
    body.writeUInt8(body.readUInt8(100_000) ^ 1, 100_000);
    expect(await send(request, body)).toMatchObject({ status: 403, code: 'SignatureDoesNotMatch' });
    expect(await refusal(s3().head('changed'))).toMatchObject({ status: 404 });
  });
  test('in another order are refused', async () => {
    const request = await head('order', signed);
    const body = signedChunks(s3(), request, chunks);
    const first = body.indexOf('\r\n') + 2 + 65_536 + 2;
    const swapped = Buffer.concat([
      body.subarray(first, 2 * first),
      body.subarray(0, first),
      body.subarray(2 * first),
    ]);
    expect(await send(request, swapped)).toMatchObject({ status: 403, code: 'SignatureDoesNotMatch' });
  });
  test('that end too early are refused', async () => {
    const request = await head('short', signed);
    const body = signedChunks(s3(), request, chunks.slice(0, 2));
    expect((await send(request, body)).status).toBe(400);
    expect(await refusal(s3().head('short'))).toMatchObject({ status: 404 });
  });
  test('with a signed trailer', async () => {
    const request = await head('trailer', `${signed}-TRAILER`, 'x-amz-checksum-crc32');
    expect((await send(request, signedChunks(s3(), request, chunks, crc))).status).toBe(200);
    expect((await s3().head('trailer', { ChecksumMode: 'ENABLED' })).ChecksumCRC32).toBe(
      crc['x-amz-checksum-crc32'],
    );
  });
  test('with a trailer that was changed are refused', async () => {
    const request = await head('forged', `${signed}-TRAILER`, 'x-amz-checksum-crc32');
    const body = signedChunks(s3(), request, chunks, crc);
    const at = body.indexOf('x-amz-trailer-signature:') + 30;
    body.writeUInt8(body.readUInt8(at) === 0x30 ? 0x31 : 0x30, at);
    expect(await send(request, body)).toMatchObject({ status: 403, code: 'SignatureDoesNotMatch' });
    expect(await refusal(s3().head('forged'))).toMatchObject({ status: 404 });
  });
  test('without signatures, with a trailer', async () => {
    const request = await head('unsigned', 'STREAMING-UNSIGNED-PAYLOAD-TRAILER', 'x-amz-checksum-crc32');
    const plain = (value: string) =>
      Buffer.concat([
        ...chunks.flatMap((c) => [Buffer.from(`${c.length.toString(16)}\r\n`), c, Buffer.from('\r\n')]),
        Buffer.from(`0\r\nx-amz-checksum-crc32:${value}\r\n\r\n`),
      ]);
    expect(await send(request, plain('AAAAAA=='))).toMatchObject({ status: 400, code: 'BadDigest' });
    expect(await refusal(s3().head('unsigned'))).toMatchObject({ status: 404 });
    expect((await send(request, plain(crc['x-amz-checksum-crc32']))).status).toBe(200);
    expect((await s3().read('unsigned')).equals(bytes)).toBe(true);
  });
});
