import { describe, expect, test } from 'vitest';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  S3ServiceException,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();

/** Of 20 at the same time: who won, and how the others were refused. */
async function race(
  start: (racer: number) => Promise<unknown>,
): Promise<{ winners: number[]; losses: string[] }> {
  const results = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => start(i)));
  const winners = results.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []));
  const losses = results.flatMap((r) =>
    r.status === 'rejected' && r.reason instanceof S3ServiceException ? [r.reason.name] : [],
  );
  return { winners, losses };
}
/** S3 answers with the second when writes overlap. */
const refused = /^(PreconditionFailed|ConditionalRequestConflict)$/;

describe('races of 20', () => {
  test.each([1, 2, 3, 4, 5])(
    'If-None-Match: * has one winner, and its bytes stay (round %i)',
    async (round) => {
      const key = `race-${round}`;
      const { winners, losses } = await race((i) => s3().put(key, `racer ${i}`, { IfNoneMatch: '*' }));
      expect(winners).toHaveLength(1);
      expect(losses).toHaveLength(19);
      for (const loss of losses) expect(loss).toMatch(refused);
      expect((await s3().read(key)).toString()).toBe(`racer ${winners[0]}`);
    },
  );

  test('If-Match on one version has one winner, and its bytes stay', async () => {
    const { ETag } = await s3().put('match-race', 'first');
    const { winners, losses } = await race((i) => s3().put('match-race', `racer ${i}`, { IfMatch: ETag }));
    expect(winners).toHaveLength(1);
    for (const loss of losses) expect(loss).toMatch(refused);
    expect((await s3().read('match-race')).toString()).toBe(`racer ${winners[0]}`);
  });

  test('multipart uploads completed with If-None-Match: * have one winner', async () => {
    const target = { Bucket: s3().bucket, Key: s3().key('multipart-race') };
    const uploads = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const { UploadId } = await s3().client.send(new CreateMultipartUploadCommand(target));
        const Body = `racer ${i}`;
        const { ETag } = await s3().client.send(
          new UploadPartCommand({ ...target, UploadId, PartNumber: 1, Body }),
        );
        return { UploadId, ETag };
      }),
    );
    const { winners } = await race((i) => {
      const { UploadId, ETag } = uploads[i] ?? {};
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
      return s3().client.send(
        new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload, IfNoneMatch: '*' }),
      );
    });
    expect(winners).toHaveLength(1);
    expect((await s3().read('multipart-race')).toString()).toBe(`racer ${winners[0]}`);
  });
});

describe('writes', () => {
  test('If-None-Match: * is refused where there is an object, and the first bytes stay', async () => {
    await s3().put('cond', '1', { IfNoneMatch: '*' });
    expect(await refusal(s3().put('cond', '2', { IfNoneMatch: '*' }))).toEqual({
      code: 'PreconditionFailed',
      status: 412,
    });
    expect((await s3().read('cond')).toString()).toBe('1');
  });
  test('If-None-Match: * holds again after a delete', async () => {
    await s3().put('anew', '1');
    await s3().delete('anew');
    await s3().put('anew', '2', { IfNoneMatch: '*' });
    expect((await s3().read('anew')).toString()).toBe('2');
  });
  test('If-Match on what is not there is 404', async () => {
    expect(await refusal(s3().put('absent', 'x', { IfMatch: '"abc"' }))).toMatchObject({ status: 404 });
  });
  test('If-Match on another version is 412', async () => {
    await s3().put('other', '1');
    expect(await refusal(s3().put('other', 'x', { IfMatch: '"abc"' }))).toMatchObject({ status: 412 });
    expect((await s3().read('other')).toString()).toBe('1');
  });
});

describe('reads', () => {
  test('If-Match', async () => {
    const { ETag } = await s3().put('get', 'body');
    expect((await s3().read('get', { IfMatch: ETag })).toString()).toBe('body');
    expect(await refusal(s3().read('get', { IfMatch: '"other"' }))).toMatchObject({ status: 412 });
  });
  test('If-None-Match', async () => {
    const { ETag } = await s3().put('get', 'body');
    expect(await refusal(s3().read('get', { IfNoneMatch: ETag }))).toMatchObject({ status: 304 });
    expect((await s3().read('get', { IfNoneMatch: '"other"' })).toString()).toBe('body');
  });
  test('If-Modified-Since and If-Unmodified-Since', async () => {
    await s3().put('get', 'body');
    // A date that is still to come counts as none in some places, so the object's own is asked.
    const { LastModified } = await s3().head('get');
    expect(await refusal(s3().read('get', { IfModifiedSince: LastModified }))).toMatchObject({ status: 304 });
    expect(await refusal(s3().read('get', { IfUnmodifiedSince: new Date(0) }))).toMatchObject({
      status: 412,
    });
  });
});
