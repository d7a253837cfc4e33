import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { ChecksumAlgorithm } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();
const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64');
/** Of "123456789", as published. */
const known: [string, string][] = [
  ['ChecksumCRC32', base64('cbf43926')],
  ['ChecksumCRC32C', base64('e3069283')],
  ['ChecksumCRC64NVME', base64('ae8b14860a799888')],
  ['ChecksumSHA1', createHash('sha1').update('123456789').digest('base64')],
  ['ChecksumSHA256', createHash('sha256').update('123456789').digest('base64')],
];

// CRC64NVME needs a package of its own in the SDK; it is sent by hand below.
const algorithms: ChecksumAlgorithm[] = ['CRC32', 'CRC32C', 'SHA1', 'SHA256'];
describe.each(algorithms)('%s by the SDK', (ChecksumAlgorithm) => {
  const field = `Checksum${ChecksumAlgorithm}` as 'ChecksumCRC32';
  const bytes = randomBytes(100_003);
  test('of a buffer, in a header', async () => {
    const name = `header-${ChecksumAlgorithm}`;
    await s3().put(name, bytes, { ChecksumAlgorithm });
    expect((await s3().head(name, { ChecksumMode: 'ENABLED' }))[field]).toMatch(/^[A-Za-z0-9+/]+=*$/);
    // The SDK compares what it reads.
    expect((await s3().read(name, { ChecksumMode: 'ENABLED' })).equals(bytes)).toBe(true);
  });
  test('of a stream, in a trailer', async () => {
    const name = `trailer-${ChecksumAlgorithm}`;
    const body = Readable.from([bytes.subarray(0, 70_000), bytes.subarray(70_000)]);
    await s3().put(name, body, { ChecksumAlgorithm, ContentLength: bytes.length });
    expect((await s3().head(name, { ChecksumMode: 'ENABLED' }))[field]).toMatch(/^[A-Za-z0-9+/]+=*$/);
    expect((await s3().read(name)).equals(bytes)).toBe(true);
  });
});

test.each(known)('a right %s is taken and given back', async (name, value) => {
  const reply = await s3().put(`right-${name}`, '123456789', { [name]: value });
  expect(reply[name as 'ChecksumCRC32']).toBe(value);
  const head = await s3().head(`right-${name}`, { ChecksumMode: 'ENABLED' });
  expect(head[name as 'ChecksumCRC32']).toBe(value);
});

test('a right Content-MD5 is taken', async () => {
  await s3().put('md5', 'x', { ContentMD5: createHash('md5').update('x').digest('base64') });
  expect((await s3().read('md5')).toString()).toBe('x');
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
  expect(await refusal(s3().put(key, 'hello', { [name]: value }))).toEqual({ code, status: 400 });
  expect((await refusal(s3().read(key))).code).toBe('NoSuchKey');
});

test('an object that comes without a checksum gets one: CRC64NVME', async () => {
  const plain = s3().connect({ requestChecksumCalculation: 'WHEN_REQUIRED' });
  try {
    const { PutObjectCommand } = await import('@aws-sdk/client-s3');
    await plain.send(new PutObjectCommand({ Bucket: s3().bucket, Key: s3().key('none'), Body: '123456789' }));
    const head = await s3().head('none', { ChecksumMode: 'ENABLED' });
    expect(head.ChecksumCRC64NVME).toBe(base64('ae8b14860a799888'));
    expect(head.ChecksumType).toBe('FULL_OBJECT');
  } finally {
    plain.destroy();
  }
});

test('a part of an object comes without the checksum of the whole', async () => {
  await s3().put('partial', '0123456789', { ChecksumAlgorithm: 'SHA256' });
  const reply = await s3().get('partial', { Range: 'bytes=0-3', ChecksumMode: 'ENABLED' });
  expect(await reply.Body?.transformToString()).toBe('0123');
});
