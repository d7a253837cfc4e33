/** Documents larger than one part: an object appears whole or not at all, once, and nothing is left over. */
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/platform/config.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { startS3, trackLeaks, type S3Service } from '../support/services.js';

trackLeaks();
const MB = 1024 * 1024;
let s3: S3Service;
let store: ObjectStore;
let client: S3Client;
beforeAll(async () => {
  s3 = await startS3();
  store = new ObjectStore(loadConfig({ flags: { ...s3.settings }, environment: {}, directory: '/' }));
  const { endpoint, region, credentials } = s3;
  client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
});
afterEach(() => s3.faults.clear());
afterAll(async () => {
  client.destroy();
  store.close();
  await s3.stop();
});

function* chunks(byte: number, megabytes = 18): Generator<Buffer> {
  for (let i = 0; i < megabytes; i++) yield Buffer.alloc(MB, byte);
}
async function openUploads(): Promise<number> {
  const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: s3.bucket }));
  return Uploads?.length ?? 0;
}

test('five writers of one key: one creates it, and the object is that writer’s alone', async () => {
  const results = await Promise.all([1, 2, 3, 4, 5].map((byte) => store.createStream('raced', chunks(byte))));
  expect(results.filter((result) => result === 'created')).toHaveLength(1);
  const winner = results.indexOf('created') + 1;
  const found = await store.get('raced');
  expect(found.equals(Buffer.alloc(18 * MB, winner))).toBe(true);
  expect(await openUploads()).toBe(0);
});

test('what is there already is not sent', async () => {
  const sent = async () => (await s3.faults.state()).requests['UploadPart'] ?? 0;
  expect(await store.createStream('there', chunks(1))).toBe('created');
  const before = await sent();
  expect(before).toBeGreaterThanOrEqual(3);
  expect(await store.createStream('there', chunks(1))).toBe('exists');
  expect(await sent()).toBe(before);
});

test('a source that fails half-way leaves nothing', async () => {
  function* failing() {
    yield* chunks(1, 12);
    throw new Error('the source failed');
  }
  await expect(store.createStream('half', failing())).rejects.toThrow(/the source failed/);
  expect(await store.modifiedAt('half')).toBeUndefined();
  expect(await openUploads()).toBe(0);
});

test('a completion whose reply is lost is found to have worked', async () => {
  await s3.faults.add({ operation: 'CompleteMultipartUpload', action: { kind: 'reset-after' } });
  await store.createStream('lost', chunks(7));
  expect((await store.get('lost')).equals(Buffer.alloc(18 * MB, 7))).toBe(true);
});
