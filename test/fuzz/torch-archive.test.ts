import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { convertHeads } from '../../src/gpu-worker/heads/convert.js';
import { readDirectory, readEntry } from '../../src/gpu-worker/heads/zip.js';
import { LonghaulError } from '../../src/platform/errors.js';
import { zip } from '../support/zip.js';
import { damaged, fuzz, TEST_MS } from './support.js';

const NAMES = ['plain', 'protocol4', 'state-dict'];
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-fuzz-'));
});
afterAll(() => rm(directory, { recursive: true }));

async function parts(path: string): Promise<{ name: string; data: Buffer }[]> {
  const file = await open(path);
  try {
    const entries = await readDirectory(file);
    const found: { name: string; data: Buffer }[] = [];
    for (const entry of entries.values())
      found.push({ name: entry.name, data: await readEntry(file, entry) });
    return found;
  } finally {
    await file.close();
  }
}

/** Opcodes and records that a reader may stumble over. */
const opcodes = [
  'cos\nsystem\n',
  'c__builtin__\neval\n',
  '(tR',
  '.',
  'Q',
  'J\xff\xff\xff\x7f',
  '\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f',
  'h\x00',
  'q\xff',
  '}',
  '](',
  'u',
  's',
  'e',
  '0',
  '2',
  '\x85\x86\x87',
  '\x8c\xff',
  'X\xff\xff\xff\xff',
  '\x95\xff\xff\xff\xff\xff\xff\xff\x7f',
  '\x94',
  '\x93',
  '\x81',
  'b',
  'ctorch\nFloatStorage\n',
  'ctorch\nBFloat16Storage\n',
].map((text) => Buffer.from(text, 'latin1'));
const records = ['PK\x01\x02', 'PK\x03\x04', 'PK\x05\x06', 'PK\x06\x06', 'PK\x06\x07'].map((text) =>
  Buffer.from(text, 'latin1'),
);

test(
  'torch archives and the pickles in them',
  async () => {
    const paths = NAMES.map((name) => `test/fixtures/heads/${name}.bin`);
    const whole = await Promise.all(paths.map((path) => readFile(path)));
    const made = await Promise.all(paths.map(parts));
    const pickleOf = (index: number) =>
      made[index]?.find(({ name }) => name.endsWith('data.pkl'))?.data ?? Buffer.alloc(0);
    const pickled = fc.nat(NAMES.length - 1).chain((index) =>
      damaged([pickleOf(index)], opcodes).map((pickle) =>
        zip(
          (made[index] ?? []).map(({ name, data }) => ({
            name,
            data: name.endsWith('data.pkl') ? pickle : data,
          })),
        ),
      ),
    );
    const input = fc.oneof(
      { weight: 3, arbitrary: pickled },
      { weight: 2, arbitrary: damaged(whole, records) },
    );
    const [from, to] = [join(directory, 'in.bin'), join(directory, 'out.safetensors')];
    let good = 0;
    await fuzz('torch archives', input, async (bytes) => {
      await writeFile(from, bytes);
      try {
        await convertHeads(from, to);
        good++;
        // No file grows by being converted, but for the header.
        expect((await stat(to)).size).toBeLessThan(bytes.length + 100_000);
      } catch (error) {
        if (!(error instanceof LonghaulError)) throw error;
        expect(error.code).toMatch(/^HEADS_/);
      }
      expect((await readdir(directory)).filter((name) => name.includes('partial'))).toEqual([]);
    });
    expect(good).toBeGreaterThan(0);
  },
  TEST_MS,
);
