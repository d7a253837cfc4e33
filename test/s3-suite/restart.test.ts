import { randomBytes } from 'node:crypto';
import { DeleteObjectsCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();

describe.each(['stop', 'kill -9'] as const)('after %s', (how) => {
  const name = (rest: string) => `${how === 'stop' ? 'stopped' : 'killed'}/${rest}`;

  test('objects have their bytes, metadata and checksums', async (context) => {
    const bytes = randomBytes(1_000_000);
    await s3().put(name('a'), bytes, { Metadata: { k: 'v' }, ContentType: 'text/plain' });
    const before = await s3().head(name('a'), { ChecksumMode: 'ENABLED' });
    await s3().restart(context, how);
    const after = await s3().head(name('a'), { ChecksumMode: 'ENABLED' });
    expect({ ...after, $metadata: undefined }).toEqual({ ...before, $metadata: undefined });
    expect((await s3().read(name('a'))).equals(bytes)).toBe(true);
  });
  test('deleted objects stay deleted, and a condition still holds', async (context) => {
    await s3().put(name('kept'), 'first');
    await s3().put(name('gone'), 'x');
    await s3().client.send(
      new DeleteObjectsCommand({
        Bucket: s3().bucket,
        Delete: { Objects: [{ Key: s3().key(name('gone')) }] },
      }),
    );
    await s3().restart(context, how);
    expect(await refusal(s3().put(name('kept'), 'second', { IfNoneMatch: '*' }))).toMatchObject({
      status: 412,
    });
    expect((await s3().read(name('kept'))).toString()).toBe('first');
    await s3().put(name('gone'), 'new', { IfNoneMatch: '*' });
  });
  test('lists name what was there', async (context) => {
    for (let i = 0; i < 20; i++) await s3().put(name(`list/${i}`), '');
    await s3().restart(context, how);
    const Prefix = s3().key(name('list/'));
    const listed = await s3().client.send(new ListObjectsV2Command({ Bucket: s3().bucket, Prefix }));
    expect(listed.KeyCount).toBe(20);
  });
});
