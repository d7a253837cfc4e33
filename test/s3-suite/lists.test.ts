import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import { beforeAll, describe, expect, test } from 'vitest';
import { refusal, useTarget } from './target.js';

const s3 = useTarget();
const COUNT = 5000;
const names = Array.from(
  { length: COUNT },
  (_, i) => `k/${String(i % 50).padStart(2, '0')}/${String(i).padStart(4, '0')}`,
);
const sorted = [...names].sort();

beforeAll(async () => {
  const queue = names.values();
  const worker = async (): Promise<void> => {
    for (const name of queue) await s3().put(name, name);
  };
  await Promise.all(Array.from({ length: 24 }, worker));
}, 300_000);

const page = (more: object = {}) =>
  s3().client.send(new ListObjectsV2Command({ Bucket: s3().bucket, Prefix: s3().prefix, ...more }));

/** All pages, without the prefix that is only this run's. */
async function all(more: object = {}) {
  const found = { keys: [] as string[], prefixes: [] as string[], pages: 0 };
  const own = (text = '') => text.slice(s3().prefix.length);
  let ContinuationToken: string | undefined;
  do {
    const reply = await page({ ContinuationToken, ...more });
    found.pages += 1;
    found.keys.push(...(reply.Contents ?? []).map((c) => own(c.Key)));
    found.prefixes.push(...(reply.CommonPrefixes ?? []).map((c) => own(c.Prefix)));
    ContinuationToken = reply.NextContinuationToken;
    expect(reply.IsTruncated).toBe(ContinuationToken !== undefined);
  } while (ContinuationToken !== undefined);
  return found;
}

describe(`lists of ${COUNT} keys`, () => {
  test('come in pages of 1000, in order, each key once', async () => {
    const found = await all();
    expect(found.keys).toEqual(sorted);
    expect(found.pages).toBe(5);
  });
  test('with a delimiter name the folders', async () => {
    const folders = Array.from({ length: 50 }, (_, i) => `k/${String(i).padStart(2, '0')}/`);
    const found = await all({ Prefix: s3().key('k/'), Delimiter: '/' });
    expect(found).toEqual({ keys: [], prefixes: folders, pages: 1 });
    expect((await all({ Prefix: s3().key('k/'), Delimiter: '/', MaxKeys: 7 })).prefixes).toEqual(folders);
  });
  test('of a prefix', async () => {
    const found = await all({ Prefix: s3().key('k/07/') });
    expect(found.keys).toEqual(sorted.filter((k) => k.startsWith('k/07/')));
  });
  test('start after a key', async () => {
    const found = await all({ StartAfter: s3().key('k/48/9'), MaxKeys: 20 });
    expect(found.keys).toEqual(sorted.filter((k) => k > 'k/48/9'));
  });
  test('a page says how many keys it has, their sizes and ETags', async () => {
    const reply = await page({ MaxKeys: 3 });
    expect(reply).toMatchObject({ KeyCount: 3, MaxKeys: 3, IsTruncated: true });
    for (const { Key, Size, ETag } of reply.Contents ?? []) {
      expect(Size).toBe((Key ?? '').length - s3().prefix.length);
      expect(ETag).toMatch(/^"[0-9a-f]{32}"$/);
    }
  });
  test('never more than 1000 keys a page', async () => {
    expect((await page({ MaxKeys: 5000 })).Contents).toHaveLength(1000);
  });
  test('no keys on request', async () => {
    expect(await page({ MaxKeys: 0 })).toMatchObject({ KeyCount: 0, IsTruncated: false });
  });
  test('a token that is none is refused', async () => {
    expect(await refusal(page({ ContinuationToken: 'rubbish' }))).toEqual({
      code: 'InvalidArgument',
      status: 400,
    });
  });
  test('a key is listed as soon as it is written, and no more once it is deleted', async () => {
    const Prefix = s3().key('fresh/');
    for (let i = 0; i < 20; i++) {
      await s3().put(`fresh/${i}`, '');
      expect((await page({ Prefix })).KeyCount).toBe(1);
      await s3().delete(`fresh/${i}`);
      expect((await page({ Prefix })).KeyCount).toBe(0);
    }
  });
});

test('keys come in the order of their UTF-8 bytes', async () => {
  const odd = ['a', 'A', 'a/', 'a-', 'ä', '\u{ffff}', '😀', '文', 'a b', '~'];
  await Promise.all(odd.map((name) => s3().put(`order/${name}`, '')));
  const reply = await page({ Prefix: s3().key('order/'), EncodingType: 'url' });
  const found = (reply.Contents ?? []).map(({ Key }) => decodeURIComponent((Key ?? '').replace(/\+/g, ' ')));
  const expected = odd.map((name) => s3().key(`order/${name}`));
  expect(found).toEqual(expected.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
});
