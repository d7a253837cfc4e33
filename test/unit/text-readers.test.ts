import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { streamDocumentFile, type SourceError } from '../../src/text/readers.js';
import { anywhere } from '../support/source-policy.js';
import { hasLoneSurrogate, Utf8Decoder } from '../../src/text/utf8.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-readers-'));
});
afterAll(() => rm(directory, { recursive: true }));

const readDocumentFile = async (folder: string, name: string) => {
  let text = '';
  for await (const piece of streamDocumentFile(folder, name, { policy: anywhere })) text += piece;
  return text;
};
const file = async (name: string, content: string | Uint8Array) => {
  await writeFile(join(directory, name), content);
  return readDocumentFile(directory, name);
};

test('reads text as it is, without a byte order mark', async () => {
  expect(await file('a.txt', 'Grüße, 日本 🙂\r\n\0')).toBe('Grüße, 日本 🙂\r\n\0');
  expect(await file('bom.txt', '\uFEFFa\uFEFF')).toBe('a\uFEFF');
  const long = 'ü🙂'.repeat(200_000);
  expect((await file('long.txt', long)) === long).toBe(true);
});

test('names the offset of bytes that are not UTF-8', async () => {
  await expect(file('latin1.txt', Buffer.from('caf\xe9!', 'latin1'))).rejects.toThrow(/0xe9 at offset 3/);
  const late = Buffer.concat([Buffer.from('ü'.repeat(100_000)), Buffer.from([0xff])]);
  await expect(file('late.txt', late)).rejects.toThrow(/0xff at offset 200000/);
  await expect(file('cut.txt', Buffer.from([0x61, 0xe2, 0x82]))).rejects.toThrow(/0xe2 at offset 1/);
});

test('refuses what is not a text file', async () => {
  await expect(readDocumentFile(directory, 'absent.txt')).rejects.toThrow(/absent.txt does not exist/);
  await mkdir(join(directory, 'folder'));
  await expect(readDocumentFile(directory, 'folder')).rejects.toThrow(/not a regular file/);
  await promisify(execFile)('mkfifo', [join(directory, 'pipe')]);
  await expect(readDocumentFile(directory, 'pipe')).rejects.toThrow(/not a regular file/);
  await expect(file('empty.txt', '')).rejects.toThrow(/is empty/);
  await file('large.txt', 'a');
  await truncate(join(directory, 'large.txt'), anywhere.maxBytes + 1);
  await expect(readDocumentFile(directory, 'large.txt')).rejects.toThrow(/larger than 67108864 bytes/);
});

test('the decoder agrees with TextDecoder on any bytes and any cuts', () => {
  const byte = fc.oneof(
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(0xe2, 0x82, 0xac, 0xed, 0xa0, 0xf0, 0x9f, 0x99, 0x82, 0xc3),
  );
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 12 }), fc.integer({ min: 1, max: 5 }), (bytes, size) => {
      const all = Uint8Array.from(bytes);
      const run = () => {
        const decoder = new Utf8Decoder();
        let text = '';
        for (let at = 0; at < all.length; at += size) text += decoder.write(all.subarray(at, at + size));
        return text + decoder.end();
      };
      let expected: string | undefined;
      try {
        expected = new TextDecoder('utf-8', { fatal: true }).decode(all);
      } catch {
        expected = undefined;
      }
      if (expected === undefined) expect(run).toThrow(/not UTF-8/);
      else expect(run()).toBe(expected);
    }),
    { numRuns: 3000 },
  );
});

test('finds half surrogate pairs', () => {
  expect(hasLoneSurrogate('a\ud800b')).toBe(true);
  expect(hasLoneSurrogate('\udc00')).toBe(true);
  expect(hasLoneSurrogate('🙂')).toBe(false);
});

test('reads Markdown and HTML by their ending, or as it is told', async () => {
  expect(await file('a.md', '# A *b*')).toBe('# A b');
  expect(await file('a.HTML', '<meta charset=latin1><h1>A <b>b</b>')).toBe('# A b');
  expect(await file('a.htm.txt', '<h1>A')).toBe('<h1>A');
  const as = async (name: string, format: 'text' | 'html') => {
    let text = '';
    for await (const piece of streamDocumentFile(directory, name, { policy: anywhere, format }))
      text += piece;
    return text;
  };
  expect(await as('a.md', 'text')).toBe('# A *b*');
  expect(await as('a.htm.txt', 'html')).toBe('# A');
  await expect(file('empty.html', '<script>x</script>')).rejects.toThrow(/has no text \(read as html\)/);
});

test('below a root, nothing leads out of it, and nobody is told where it is', async () => {
  const outside = await realpath(directory);
  const root = join(outside, 'root');
  await mkdir(join(root, 'in'), { recursive: true });
  await writeFile(join(outside, 'secret.txt'), 'secret');
  await mkdir(join(outside, 'root-beside'));
  await writeFile(join(outside, 'root-beside/a.txt'), 'beside');
  await writeFile(join(root, 'in/a.txt'), 'fine');
  await symlink('in/a.txt', join(root, 'link-in'));
  await symlink('../secret.txt', join(root, 'link-out'));
  await symlink('..', join(root, 'folder-out'));
  await symlink(root, join(outside, 'linked-root'));
  await promisify(execFile)('mkfifo', [join(root, 'pipe')]);
  const read = async (path: string, documentRoot: string | null = root) => {
    const policy = { ...anywhere, documentRoot };
    let text = '';
    for await (const piece of streamDocumentFile(root, path, { policy })) text += piece;
    return text;
  };
  for (const path of ['in/a.txt', './in/../in/a.txt', 'link-in', join(root, 'in/a.txt')]) {
    expect(await read(path)).toBe('fine');
  }
  expect(await read('in/a.txt', join(outside, 'linked-root'))).toBe('fine');
  const paths = [
    '../secret.txt',
    'in/../../secret.txt',
    'link-out',
    'folder-out/secret.txt',
    '../root-beside/a.txt',
  ];
  for (const path of [...paths, join(outside, 'secret.txt'), '/dev/zero', '/etc/absent', '..', '.', '']) {
    const { code, message } = (await read(path).catch((e: unknown) => e)) as SourceError;
    expect(code).toBe('DOCUMENT_OUTSIDE_ROOT');
    expect(message.replace(path, '')).not.toContain(outside);
  }
  await expect(read('pipe')).rejects.toThrow(/^pipe is not a regular file/);
  await expect(read('absent')).rejects.toThrow(/^absent does not exist$/);
  await expect(read('in/a.txt', join(outside, 'no-root'))).rejects.toThrow(/no folder at documentRoot/);
  await expect(read('in/a.txt', null)).rejects.toThrow(/no documentRoot is set/);
});
