import { createHash, randomBytes } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();
const partSize = 5 * 1024 * 1024;
const at = (name: string) => ({ Bucket: s3().bucket, Key: s3().key(name) });
const start = async (name: string, more: object = {}): Promise<string> =>
  (await s3().client.send(new CreateMultipartUploadCommand({ ...at(name), ...more }))).UploadId ?? '';
const part = (name: string, UploadId: string, PartNumber: number, Body: Uint8Array, more: object = {}) =>
  s3().client.send(new UploadPartCommand({ ...at(name), UploadId, PartNumber, Body, ...more }));
const complete = (name: string, UploadId: string, etags: (string | undefined)[], more: object = {}) =>
  s3().client.send(
    new CompleteMultipartUploadCommand({
      ...at(name),
      UploadId,
      MultipartUpload: { Parts: etags.map((ETag, i) => ({ ETag, PartNumber: i + 1 })) },
      ...more,
    }),
  );
const uploads = async () => {
  const reply = await s3().client.send(
    new ListMultipartUploadsCommand({ Bucket: s3().bucket, Prefix: s3().prefix }),
  );
  return reply.Uploads?.map((u) => u.UploadId) ?? [];
};

describe('uploads in parts', () => {
  const bytes = randomBytes(2 * partSize + 12_345);
  const pieces = [
    bytes.subarray(0, partSize),
    bytes.subarray(partSize, 2 * partSize),
    bytes.subarray(2 * partSize),
  ];

  async function whole(name: string, id: string, restart: () => Promise<void> = () => Promise.resolve()) {
    const one = await part(name, id, 1, pieces[0] as Buffer);
    await restart();
    const two = await part(name, id, 2, pieces[1] as Buffer);
    // A part sent again replaces the first.
    await part(name, id, 3, randomBytes(10));
    const three = await part(name, id, 3, pieces[2] as Buffer);
    const listed = await s3().client.send(new ListPartsCommand({ ...at(name), UploadId: id }));
    expect(listed.Parts?.map((p) => [p.PartNumber, p.Size])).toEqual([
      [1, partSize],
      [2, partSize],
      [3, 12_345],
    ]);
    expect(await uploads()).toContain(id);
    await restart();
    const done = await complete(name, id, [one.ETag, two.ETag, three.ETag]);
    const sums = pieces.map((piece) => createHash('md5').update(piece).digest());
    expect(done.ETag).toBe(`"${createHash('md5').update(Buffer.concat(sums)).digest('hex')}-3"`);
    expect((await s3().read(name)).equals(bytes)).toBe(true);
    expect(await s3().head(name)).toMatchObject({ Metadata: { a: 'b' }, ContentType: 'application/x-test' });
    expect(await uploads()).not.toContain(id);
  }
  const more = { Metadata: { a: 'b' }, ContentType: 'application/x-test' };

  test('become one object', async () => {
    await whole('big', await start('big', more));
  });
  test('go on after the server was stopped and started', async (context) => {
    await whole('stopped', await start('stopped', more), () => s3().restart(context));
  });
  test('go on after the server was killed', async (context) => {
    await whole('killed', await start('killed', more), () => s3().restart(context, 'kill -9'));
  });
  test('lists of parts come in pages', async () => {
    const id = await start('paged');
    for (let i = 1; i <= 5; i++) await part('paged', id, i, Buffer.from([i]));
    const list = (more: object) =>
      s3().client.send(new ListPartsCommand({ ...at('paged'), UploadId: id, MaxParts: 2, ...more }));
    const first = await list({});
    expect(first).toMatchObject({ IsTruncated: true, NextPartNumberMarker: '2' });
    const second = await list({ PartNumberMarker: '4' });
    expect(second.IsTruncated).toBe(false);
    expect(second.Parts?.map((p) => p.PartNumber)).toEqual([5]);
  });
  test('are not there before they are complete', async () => {
    const id = await start('pending');
    await part('pending', id, 1, Buffer.from('x'));
    expect(await refusal(s3().head('pending'))).toMatchObject({ status: 404 });
  });
  test('are gone once they are given up', async () => {
    const id = await start('aborted');
    const { ETag } = await part('aborted', id, 1, Buffer.from('x'));
    await s3().client.send(new AbortMultipartUploadCommand({ ...at('aborted'), UploadId: id }));
    expect(await refusal(complete('aborted', id, [ETag]))).toEqual({ code: 'NoSuchUpload', status: 404 });
    expect(await refusal(part('aborted', id, 2, Buffer.from('x')))).toMatchObject({ code: 'NoSuchUpload' });
    expect(await uploads()).not.toContain(id);
  });
});

describe('what is refused', () => {
  test('a part below 5 MB that is not the last', async () => {
    const id = await start('small');
    const etags = [
      await part('small', id, 1, randomBytes(100)),
      await part('small', id, 2, randomBytes(100)),
    ];
    const answer = await refusal(
      complete(
        'small',
        id,
        etags.map(({ ETag }) => ETag),
      ),
    );
    expect(answer).toEqual({ code: 'EntityTooSmall', status: 400 });
  });
  test('a part with another ETag, and one that never came', async () => {
    const id = await start('wrong');
    const { ETag } = await part('wrong', id, 1, randomBytes(100));
    expect(await refusal(complete('wrong', id, [`"${'0'.repeat(32)}"`]))).toEqual({
      code: 'InvalidPart',
      status: 400,
    });
    const other = await start('wrong');
    expect(await refusal(complete('wrong', other, [ETag]))).toMatchObject({ code: 'InvalidPart' });
  });
  test('parts in another order', async () => {
    const id = await start('swapped');
    const one = await part('swapped', id, 1, randomBytes(100));
    const two = await part('swapped', id, 2, randomBytes(100));
    const Parts = [
      { ETag: two.ETag, PartNumber: 2 },
      { ETag: one.ETag, PartNumber: 1 },
    ];
    const command = new CompleteMultipartUploadCommand({
      ...at('swapped'),
      UploadId: id,
      MultipartUpload: { Parts },
    });
    expect(await refusal(s3().client.send(command))).toEqual({ code: 'InvalidPartOrder', status: 400 });
  });
  test('part 0 and part 10001', async () => {
    const id = await start('numbers');
    for (const number of [0, 10_001]) {
      expect(await refusal(part('numbers', id, number, Buffer.from('x')))).toMatchObject({ status: 400 });
    }
  });
  test('an upload that is not there, or of another key', async () => {
    const id = await start('mine');
    expect(await refusal(part('mine', '../../..', 1, randomBytes(1)))).toMatchObject({
      code: 'NoSuchUpload',
    });
    expect(await refusal(part('yours', id, 1, randomBytes(1)))).toMatchObject({ code: 'NoSuchUpload' });
  });
  test('a part whose checksum is wrong', async () => {
    const id = await start('sum', { ChecksumAlgorithm: 'SHA256' });
    const ChecksumSHA256 = Buffer.alloc(32).toString('base64');
    expect(await refusal(part('sum', id, 1, randomBytes(1), { ChecksumSHA256 }))).toMatchObject({
      code: 'BadDigest',
    });
  });
  test('completing over an object with If-None-Match: *, which stays', async () => {
    const id = await start('taken');
    const { ETag } = await part('taken', id, 1, Buffer.from('second'));
    await s3().put('taken', 'first');
    expect(await refusal(complete('taken', id, [ETag], { IfNoneMatch: '*' }))).toEqual({
      code: 'PreconditionFailed',
      status: 412,
    });
    expect((await s3().read('taken')).toString()).toBe('first');
  });
});

describe('checksums of uploads', () => {
  test('one of the whole object', async () => {
    const more = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' };
    const id = await start('whole', more);
    const { ETag } = await part('whole', id, 1, Buffer.from('123456789'), { ChecksumAlgorithm: 'CRC32' });
    const wrong = { ChecksumCRC32: Buffer.alloc(4).toString('base64'), ChecksumType: 'FULL_OBJECT' };
    expect(await refusal(complete('whole', id, [ETag], wrong))).toMatchObject({ code: 'BadDigest' });
    const ChecksumCRC32 = Buffer.from('cbf43926', 'hex').toString('base64');
    const done = await complete('whole', id, [ETag], { ChecksumCRC32, ChecksumType: 'FULL_OBJECT' });
    expect(done.ChecksumCRC32).toBe(ChecksumCRC32);
    expect((await s3().head('whole', { ChecksumMode: 'ENABLED' })).ChecksumType).toBe('FULL_OBJECT');
  });
  test('one of the parts’ checksums', async () => {
    const id = await start('composite', { ChecksumAlgorithm: 'SHA256' });
    const body = Buffer.from('123456789');
    const { ETag, ChecksumSHA256 } = await part('composite', id, 1, body, { ChecksumAlgorithm: 'SHA256' });
    expect(ChecksumSHA256).toBe(createHash('sha256').update(body).digest('base64'));
    const MultipartUpload = { Parts: [{ ETag, ChecksumSHA256, PartNumber: 1 }] };
    const done = await s3().client.send(
      new CompleteMultipartUploadCommand({ ...at('composite'), UploadId: id, MultipartUpload }),
    );
    const inner = createHash('sha256').update(body).digest();
    expect(done.ChecksumSHA256).toBe(`${createHash('sha256').update(inner).digest('base64')}-1`);
  });
});
