import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config.js';
import { ConfigError, InfrastructureError, NotFoundError, StoreError } from '../../src/platform/errors.js';
import { ObjectStore } from '../../src/platform/object-store.js';
import { startS3, trackLeaks, type S3Service } from '../support/services.js';

trackLeaks();
let s3: S3Service;
let store: ObjectStore;
const open = (settings: Record<string, unknown> = {}) =>
  new ObjectStore(loadConfig({ flags: { ...s3.settings, s3Prefix: 'tests', ...settings }, environment: {} }));

beforeAll(async () => {
  s3 = await startS3();
  store = open();
});
afterEach(() => s3.faults.clear());
afterAll(async () => {
  store.close();
  await s3.stop();
});

const collect = async (keys: AsyncIterable<string>) => {
  const all: string[] = [];
  for await (const key of keys) all.push(key);
  return all;
};

describe('the object store', () => {
  it('creates an object once, whoever races', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, i) => store.create('once', `writer ${i}`)),
    );
    expect(results.filter((r) => r === 'created')).toHaveLength(1);
    expect((await store.get('once')).toString()).toMatch(/^writer \d$/);
  });

  it('verifies what is there: equal bytes are a success, others a conflict', async () => {
    expect(await store.createOrVerify('verified', 'a')).toBe('created');
    expect(await store.createOrVerify('verified', 'a')).toBe('exists');
    await expect(store.createOrVerify('verified', 'b')).rejects.toThrow(StoreError);
  });

  it('takes a write whose reply was lost for its own', async () => {
    await s3.faults.add({ operation: 'PutObject', action: { kind: 'reset-after' } });
    expect(await store.createOrVerify('lost-reply', 'body')).toBe('exists');
    expect((await store.get('lost-reply')).toString()).toBe('body');
  });

  it('survives a burst of 503 and says which key failed when it lasts', async () => {
    await s3.faults.add({ operation: 'PutObject', times: 2, action: { kind: 'error' } });
    expect(await store.create('burst', 'x')).toBe('created');
    await s3.faults.add({ operation: 'GetObject', times: 100, action: { kind: 'error' } });
    const failure = store.get('burst');
    await expect(failure).rejects.toThrow(InfrastructureError);
    await expect(failure).rejects.toThrow(/s3:\/\/longhaul-test\/tests\/burst/);
  });

  it('reads ranges, and an empty range without a request', async () => {
    await store.create('range', 'abcdef');
    expect((await store.getRange('range', 2, 5)).toString()).toBe('cde');
    expect(await store.getRange('no-such-key', 3, 3)).toHaveLength(0);
    await expect(store.getRange('range', 4, 9)).rejects.toThrow(/gave 2 bytes for the range 4\.\.9/);
  });

  it('writes 20 MB in parts and reports size and digest', async () => {
    const chunk = Buffer.alloc(1024 * 1024, 7);
    const written = await store.put('large', Array<Buffer>(20).fill(chunk));
    expect(written.bytes).toBe(20 * 1024 * 1024);
    expect((await store.get('large')).equals(Buffer.alloc(written.bytes, 7))).toBe(true);
    expect(written.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it('lists keys and folders below its own prefix only', async () => {
    for (const key of ['list/a/1', 'list/a/2', 'list/b/1']) await store.create(key, '');
    expect(await collect(store.list('list/a/'))).toEqual(['list/a/1', 'list/a/2']);
    expect(await collect(store.listFolders('list/'))).toEqual(['a', 'b']);
    const other = open({ s3Prefix: 'elsewhere' });
    expect(await collect(other.list('list/'))).toEqual([]);
    other.close();
    expect(await store.exists('list/a/1')).toBe(true);
    expect(await store.exists('list/a/')).toBe(false);
  });

  it('tells a missing object, a missing bucket and a wrong secret apart', async () => {
    await expect(store.get('missing')).rejects.toThrow(NotFoundError);
    const wrongBucket = open({ s3Bucket: 'no-such-bucket' });
    await expect(wrongBucket.probe()).rejects.toThrow(/bucket no-such-bucket does not exist/);
    const wrongSecret = open({ s3SecretAccessKey: 'wrong' });
    await expect(wrongSecret.create('x', '')).rejects.toThrow(/check credentials/);
    wrongBucket.close();
    wrongSecret.close();
  });

  it('accepts a store with conditional writes and refuses one without, by name', async () => {
    await store.probe();
    await s3.faults.set({ ignoreConditions: true });
    await expect(store.probe()).rejects.toThrow(ConfigError);
    await expect(store.probe()).rejects.toThrow(
      /s3:\/\/longhaul-test\/tests\/ does not honour If-None-Match/,
    );
  });
});
