import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createHasher } from '../../src/local/s3/checksums.js';
import { S3Error } from '../../src/local/s3/errors.js';
import { compareKeys, KeyIndex } from '../../src/local/s3/key-index.js';
import { fileNameOf } from '../../src/local/s3/store.js';
import { parseXml, xmlDocument } from '../../src/local/s3/xml.js';

describe('checksums', () => {
  // The published check values: the checksum of "123456789".
  test.each([
    ['CRC32', 'cbf43926'],
    ['CRC32C', 'e3069283'],
    ['CRC64NVME', 'ae8b14860a799888'],
    ['SHA1', 'f7c3bc1d808e04732adf679965ccc34ca7ae3441'],
    ['MD5', '25f9e794323b453885f5181f1b624d0b'],
  ] as const)('%s of the check string, in one piece and in pieces', (algorithm, expected) => {
    for (const cut of [0, 1, 4, 8, 9]) {
      const hasher = createHasher(algorithm);
      const text = Buffer.from('123456789');
      hasher.update(text.subarray(0, cut));
      hasher.update(text.subarray(cut));
      expect(hasher.digest().toString('hex')).toBe(expected);
    }
  });
  test('pieces never matter', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), (bytes, cut) => {
        for (const algorithm of ['CRC32', 'CRC32C', 'CRC64NVME'] as const) {
          const [whole, parts] = [createHasher(algorithm), createHasher(algorithm)];
          const buffer = Buffer.from(bytes);
          whole.update(buffer);
          parts.update(buffer.subarray(0, cut));
          parts.update(buffer.subarray(cut));
          expect(parts.digest().equals(whole.digest())).toBe(true);
        }
      }),
    );
  });
});

const key = fc.string({ unit: 'grapheme-composite', minLength: 1, maxLength: 8 });
const listKey = fc.string({
  unit: fc.constantFrom('a', 'b', '/', '\u{ffff}', '😀'),
  minLength: 1,
  maxLength: 6,
});

describe('keys', () => {
  test('are ordered as their UTF-8 bytes are', () => {
    const mixed = fc.oneof(key, listKey);
    fc.assert(
      fc.property(mixed, mixed, (a, b) => {
        expect(Math.sign(compareKeys(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
    );
  });
  test('become names that are safe and differ', () => {
    fc.assert(
      fc.property(key, key, (a, b) => {
        expect(fileNameOf(a)).toMatch(/^[0-9a-f]{40}\.[A-Za-z0-9._~-]{0,60}$/);
        if (a !== b) expect(fileNameOf(a).toLowerCase()).not.toBe(fileNameOf(b).toLowerCase());
      }),
    );
  });
  test('are listed page by page as a plain model says', () => {
    const query = fc.record({
      prefix: fc.constantFrom('', 'a', 'a/', 'b'),
      delimiter: fc.constantFrom('', '/', 'b'),
      startAfter: fc.constantFrom('', 'a', 'a/a', 'b/'),
      maxKeys: fc.integer({ min: 1, max: 4 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(listKey, { maxLength: 30 }),
        fc.array(fc.nat(29)),
        query,
        (keys, gone, q) => {
          const index = new KeyIndex<number>();
          keys.forEach((k, i) => index.set(k, i));
          for (const i of gone) if (keys[i] !== undefined) index.delete(keys[i]);
          const left = keys.filter((_, i) => !gone.includes(i)).sort(compareKeys);
          const model = new Set<string>();
          for (const k of left) {
            if (!k.startsWith(q.prefix) || compareKeys(k, q.startAfter) <= 0) continue;
            const cut = q.delimiter === '' ? -1 : k.indexOf(q.delimiter, q.prefix.length);
            model.add(cut < 0 ? k : `${k.slice(0, cut + q.delimiter.length)}*`);
          }
          const seen: string[] = [];
          let resume: { key: string; isPrefix: boolean } | undefined;
          for (;;) {
            const page = index.list(q, resume);
            const entries = [...page.items.map((i) => i.key), ...page.commonPrefixes.map((p) => `${p}*`)];
            expect(entries.length).toBeLessThanOrEqual(q.maxKeys);
            seen.push(...entries);
            if (!page.truncated) break;
            expect(entries.length).toBe(q.maxKeys);
            resume = page.last;
          }
          expect([...seen].sort()).toEqual([...model].sort());
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('xml', () => {
  test('what is written is read again', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (texts) => {
        const root = parseXml(xmlDocument('List', { Item: texts }));
        expect(root.children.map((c) => c.text)).toEqual(texts);
      }),
    );
  });
  test('namespaces, CDATA, comments and self-closed elements', () => {
    const root = parseXml(
      '<?xml version="1.0"?><s:A xmlns:s="x"><!-- no --><B a="1>2"/><C><![CDATA[<&]]></C></s:A>',
    );
    expect(root).toEqual({
      name: 'A',
      text: '',
      children: [
        { name: 'B', text: '', children: [] },
        { name: 'C', text: '<&', children: [] },
      ],
    });
  });
  test.each(['', 'text', '<a>', '<a></b>', '<a></a><b></b>', '<!DOCTYPE a><a></a>', '<a>&x;</a>', '<a'])(
    '%j is refused',
    (source) => {
      expect(() => parseXml(source)).toThrow(S3Error);
    },
  );
});
