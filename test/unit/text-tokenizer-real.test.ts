import fc from 'fast-check';
import { nfcNormalizer } from 'tokenizers';
import { beforeAll, describe, expect, test } from 'vitest';
import { CodePoints, splitterOf } from '../../src/text/code-points.js';
import { isInert } from '../../src/text/nfc.js';
import { PreTokens } from '../../src/text/pre-tokens.js';
import { openTextEncoding, type TextEncoding } from '../../src/text/text-encoder.js';
import { realTokenizerFile, realTokenizers, reference } from '../support/real-tokenizers.js';

const never = new AbortController().signal;
/** Longer than the longest token of either vocabulary, and short enough that texts here have several. */
const WINDOW = 300;

/** Text as many small pieces; pairs of surrogates stay together, as they do in the pool. */
async function encodeInPieces(encoding: TextEncoding, text: string, size: number): Promise<number[]> {
  const session = encoding.open(never);
  const points = [...text];
  const ids: number[] = [];
  for (let at = 0; at === 0 || at < points.length; at += size) {
    const last = at + size >= points.length;
    for (const id of await session.push(points.slice(at, at + size).join(''), last)) ids.push(id);
  }
  return ids;
}

/** A code point of any script, those that the patterns look at more often. */
const hostile = fc.oneof(
  fc.constantFrom(
    ...["'", "'s", "'LL", "'ſ", "'r", 'l', ' ', '  ', '\t', '\n', '\r\n', '\r', '\u0085', '\u00a0', '\u2028'],
    ...[
      '\u180e',
      '\u200b',
      '\ufeff',
      '\0',
      '\x01',
      'a',
      'The',
      '1',
      '٣',
      '½',
      '.',
      '!?',
      '(',
      '日本',
      'é',
      'e\u0301',
    ],
    ...[
      '\u0301',
      '\u0323\u0307',
      '\u1100\u1161\u11a8',
      '\uac00\u11a8',
      '\u212b',
      '\u0344',
      '🙂',
      '👩‍👩‍👧',
      '<|eot_id|>',
      '<|im_end|>',
    ],
  ),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 3 }),
);
const run = fc.tuple(hostile, fc.integer({ min: 1, max: 400 })).map(([piece, times]) => piece.repeat(times));
/** One pre-token of several windows. */
const long = fc
  .array(fc.constantFrom('a', 'b', 'e', 'th', 'ing', 'xx', 'Q', 'é', 'ß', 'い', '中', '国', '𝒜'), {
    minLength: 50,
  })
  .map((letters) => letters.join('').repeat(1 + (letters.length % 5)));
const longs = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'é', '中'), minLength: 200, maxLength: 1500 });
const text = fc.array(
  fc.oneof({ weight: 16, arbitrary: hostile }, { weight: 2, arbitrary: run }, long, longs),
  { maxLength: 60 },
);

describe.each(realTokenizers)('%s', (name) => {
  let encoding: TextEncoding;
  let whole: (text: string) => Promise<number[]>;
  beforeAll(async () => {
    const file = realTokenizerFile(name);
    encoding = await openTextEncoding(name, file, WINDOW);
    whole = reference(file);
  }, 60_000);

  test('gives the ids of the library for any text in any pieces', async () => {
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 50 }), async (pieces, size) => {
        const joined = pieces.join('');
        expect(await encodeInPieces(encoding, joined, size)).toEqual(await whole(joined));
      }),
      { numRuns: 500 },
    );
  }, 60_000);
});

test('NFC leaves inert characters alone, and none joins what stands before it', () => {
  const nfc = nfcNormalizer();
  for (let block = 0; block < 0x30000; block += 256) {
    if (block >= 0xd800 && block < 0xe000) continue;
    const points = Array.from({ length: 256 }, (_, i) => String.fromCodePoint(block + i));
    const inert = points.filter((point) => isInert(point)).join('');
    expect(nfc.normalizeString(inert)).toBe(inert);
    for (const point of points) {
      const [, ...joining] = nfc.normalizeString(point) === point ? [...point.normalize('NFD')] : [];
      expect(isInert(joining.join(''))).toBe(joining.length === 0);
    }
  }
});

test('pre-tokens are those of the library around every character', () => {
  const pattern = (
    realTokenizerFile('llama3_1').pre_tokenizer as { pretokenizers: { pattern: { Regex: string } }[] }
  ).pretokenizers[0]?.pattern.Regex;
  const library = splitterOf(pattern ?? '');
  const own = new PreTokens(new CodePoints(pattern ?? ''), 3);
  for (let block = 0; block < 0x40000; block += 1024) {
    if (block >= 0xd800 && block < 0xe000) continue;
    const probe = Array.from({ length: 1024 }, (_, i) => {
      const point = String.fromCodePoint(block + i);
      return `'${point}x ${point}${point}1${point}\n`;
    }).join('');
    const expected = library.preTokenizeString(probe).map(([piece]) => piece);
    const found: string[] = [];
    for (let at = 0; at < probe.length;) {
      const end = own.end(probe, at, true);
      found.push(probe.slice(at, end));
      at = end;
    }
    expect(found).toEqual(expected);
  }
}, 60_000);
