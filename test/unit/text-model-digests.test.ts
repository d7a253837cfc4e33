import { cp, mkdtemp, open, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { modelDigests } from '../../src/text/model-digests.js';

let directory: string;
let model: string;
let cacheDir: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-digests-'));
  model = join(directory, 'model');
  cacheDir = join(directory, 'cache');
  await cp(fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url)), model, { recursive: true });
  await writeFile(join(model, 'model.safetensors'), 'weights');
});
afterEach(() => rm(directory, { recursive: true }));

test('cover config, weights and heads, each on its own', async () => {
  const plain = await modelDigests(model, undefined, { cacheDir });
  expect(plain.heads).toBeNull();
  await writeFile(join(model, 'retaining_heads.safetensors'), 'heads');
  const withHeads = await modelDigests(model, undefined, { cacheDir });
  expect(withHeads).toEqual({ ...plain, heads: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
  expect(await modelDigests(model, join(model, 'retaining_heads.safetensors'), { cacheDir })).toEqual(
    withHeads,
  );
  await writeFile(join(model, 'model.safetensors'), 'weightz');
  expect((await modelDigests(model, undefined, { cacheDir })).model).not.toBe(plain.model);
  await writeFile(join(model, 'model.safetensors'), 'weights');
  await writeFile(join(model, 'config.json'), '{}');
  expect((await modelDigests(model, undefined, { cacheDir })).model).not.toBe(plain.model);
});

test('cover every shard of the index', async () => {
  await writeFile(
    join(model, 'model.safetensors.index.json'),
    JSON.stringify({
      weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors', c: 'model-1.safetensors' },
    }),
  );
  await writeFile(join(model, 'model-1.safetensors'), '1');
  await expect(modelDigests(model, undefined, { cacheDir })).rejects.toThrow(
    /model-2.safetensors cannot be read/,
  );
  await writeFile(join(model, 'model-2.safetensors'), '2');
  const before = await modelDigests(model, undefined, { cacheDir });
  await writeFile(join(model, 'model-2.safetensors'), '3');
  expect((await modelDigests(model, undefined, { cacheDir })).model).not.toBe(before.model);
});

test('of large files are remembered until the file changes', async () => {
  const path = join(model, 'model.safetensors');
  const write = async (byte: string) => {
    const file = await open(path, 'r+');
    await file.truncate(64 * 1024 * 1024);
    await file.write(byte, 0);
    await file.close();
  };
  await write('a');
  await utimes(path, 1000, 1000);
  const first = await modelDigests(model, undefined, { cacheDir });
  expect(await readdir(cacheDir)).toHaveLength(1);
  // Same size and time: taken from the cache, which shows that it was not read again.
  await write('b');
  await utimes(path, 1000, 1000);
  expect(await modelDigests(model, undefined, { cacheDir })).toEqual(first);
  await utimes(path, 2000, 2000);
  expect((await modelDigests(model, undefined, { cacheDir })).model).not.toBe(first.model);
});

test('of a missing model name the file', async () => {
  await expect(modelDigests(join(directory, 'none'), undefined, { cacheDir })).rejects.toThrow(
    /none\/config.json cannot be read/,
  );
});
