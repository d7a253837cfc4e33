import fc from 'fast-check';
import { nfcNormalizer } from 'tokenizers';
import { beforeAll, describe, expect, test } from 'vitest';
import { AnswerDecoder, decodeBytes, tokenBytes, type TokenBytes } from '../../src/text/byte-level.js';
import { CodePoints, splitterOf } from '../../src/text/code-points.js';
import { isInert } from '../../src/text/nfc.js';
import { PreTokens } from '../../src/text/pre-tokens.js';
import { openTextEncoding, type TextEncoding } from '../../src/text/text-encoder.js';
import {
  realTokenizerFile,
  realTokenizers,
  reference,
  type RealTokenizer,
} from '../support/real-tokenizers.js';

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
      { numRuns: 300 },
    );
  }, 60_000);
});

/** Texts that a careless encoder takes quadratic time or the stack for; about `length` UTF-16 units. */
const endless: Record<string, (length: number) => string> = {
  'one letter': (length) => 'a'.repeat(length),
  'one ideograph': (length) => '中'.repeat(length),
  spaces: (length) => ' '.repeat(length),
  'spaces and line feeds': (length) => ' \n'.repeat(length / 2),
  'line feeds': (length) => '\n'.repeat(length),
  digits: (length) => '1'.repeat(length),
  NULs: (length) => '\0'.repeat(length),
  'control characters': (length) =>
    Array.from({ length }, (_, i) => String.fromCharCode(1 + (((i * 7919) >> 3) % 31))).join(''),
  apostrophes: (length) => "'".repeat(length),
  'combining marks': (length) => 'e' + '\u0301\u0323'.repeat(length / 2),
  'decomposed letters': (length) => 'e\u0301'.repeat(length / 2),
  'Hangul jamo': (length) => '\u1112\u1161\u11ab'.repeat(length / 3),
  emoji: (length) => '👩‍👩‍👧'.repeat(length / 8),
  'special tokens': (length) => '<|eot_id|><|im_end|><|endoftext|>'.repeat(length / 33),
  'every character': (length) => {
    // A step that shares no factor with the size of the planes reaches all of them.
    const points = Array.from({ length: Math.min(length, 0x30000) }, (_, i) => (i * 7919) % 0x30000);
    return points.map((p) => (p >= 0xd800 && p < 0xe000 ? '' : String.fromCodePoint(p))).join('');
  },
};

describe.each(realTokenizers)('%s', (name) => {
  let encoding: TextEncoding;
  let whole: (text: string) => Promise<number[]>;
  beforeAll(async () => {
    const file = realTokenizerFile(name);
    encoding = await openTextEncoding(name, file);
    whole = reference(file);
  }, 60_000);
  const encode = async (text: string) => {
    const begun = process.cpuUsage();
    const ids = await encoding.open(never).push(text, true);
    const { user, system } = process.cpuUsage(begun);
    return { ids, seconds: (user + system) / 1e6 };
  };

  test.each(Object.keys(endless))(
    "of endless %s the ids are the library's and the time grows with the length",
    async (kind) => {
      const make = endless[kind] ?? (() => '');
      await encode(make(1000));
      const text = make(60_000);
      const { ids, seconds } = await encode(text);
      expect(Buffer.from(ids.buffer).equals(Buffer.from(Uint32Array.from(await whole(text)).buffer))).toBe(
        true,
      );
      const bytes = decodeBytes(encoding.bytes as TokenBytes, ids);
      expect(Buffer.from(name === 'qwen3' ? nfcNormalizer().normalizeString(text) : text).equals(bytes)).toBe(
        true,
      );
      const four = await encode(make(240_000));
      // Quadratic time would be sixteen times as long.
      expect(four.seconds).toBeLessThan(8 * Math.max(seconds, 0.15));
    },
    30_000,
  );
});

test('ten and a half million spaces, over which the library ends the process, are encoded', async () => {
  const encoding = await openTextEncoding('llama3_1', realTokenizerFile('llama3_1'));
  const ids = await encoding.open(never).push(' '.repeat(10_500_000), true);
  expect(ids.length).toBe(Math.ceil(10_500_000 / 128));
  const bytes = Buffer.from(decodeBytes(encoding.bytes as TokenBytes, ids));
  expect(bytes.equals(Buffer.alloc(10_500_000, ' '))).toBe(true);
}, 60_000);

test('an abort ends the work on an endless pre-token', async () => {
  const encoding = await openTextEncoding('llama3_1', realTokenizerFile('llama3_1'));
  const controller = new AbortController();
  const encoded = encoding.open(controller.signal).push('a'.repeat(20_000_000), true);
  setTimeout(() => {
    controller.abort();
  }, 50);
  await expect(encoded).rejects.toThrow('aborted');
}, 30_000);

describe('decoding', () => {
  const table = (name: RealTokenizer) => {
    const file = realTokenizerFile(name);
    return { file, bytes: tokenBytes(file.model.vocab, file.added_tokens) as TokenBytes };
  };

  test.each(realTokenizers)(
    'of %s gives the bytes of any text, and streams whole characters',
    async (name) => {
      const { file, bytes } = table(name);
      const whole = reference({ ...file, normalizer: null });
      await fc.assert(
        fc.asyncProperty(text, fc.integer({ min: 1, max: 5 }), async (pieces, size) => {
          const joined = pieces.join('');
          const ids = await whole(joined);
          expect(Buffer.from(joined).equals(decodeBytes(bytes, ids))).toBe(true);
          const decoder = new AnswerDecoder(bytes);
          let streamed = '';
          for (let at = 0; at < ids.length; at += size) {
            const part = decoder.write(ids.slice(at, at + size));
            expect(part).not.toContain(joined.includes('\ufffd') ? 'nothing' : '\ufffd');
            streamed += part;
          }
          expect(streamed + decoder.end()).toBe(joined);
        }),
        { numRuns: 200 },
      );
    },
    60_000,
  );

  test('keeps spaces before punctuation, drops special tokens, and marks what never became a character', async () => {
    const { file, bytes } = table('llama3_1');
    const ids = await reference(file)(" Blue , isn 't it ? 🚢");
    const decode = (some: number[]) => {
      const decoder = new AnswerDecoder(bytes);
      return decoder.write(some) + decoder.end();
    };
    expect(decode([128006, ...ids, 128009, 999_999])).toBe(" Blue , isn 't it ? 🚢");
    expect(decode(ids.slice(0, -1))).toBe(" Blue , isn 't it ? \ufffd");
  }, 30_000);
});

test('NFC leaves inert characters alone, and none joins what stands before it', () => {
  const nfc = nfcNormalizer();
  for (let block = 0; block < 0x30000; block += 256) {
    if (block >= 0xd800 && block < 0xe000) continue;
    const points = Array.from({ length: 256 }, (_, i) => String.fromCodePoint(block + i));
    const inert = points.filter((point) => isInert(point)).join('');
    expect(nfc.normalizeString(inert)).toBe(inert);
    for (const point of points) {
      const parts = [...point.normalize('NFD')];
      if (parts.length === 1 || nfc.normalizeString(point) !== point) continue;
      const joining = parts.slice(1);
      for (const mark of joining) expect(isInert(mark)).toBe(false);
    }
  }
}, 30_000);

test('pre-tokens are those of the library around every character', () => {
  const pattern = (
    realTokenizerFile('llama3_1').pre_tokenizer as { pretokenizers: { pattern: { Regex: string } }[] }
  ).pretokenizers[0]?.pattern.Regex;
  const library = splitterOf(pattern ?? '');
  const own = new PreTokens(new CodePoints(pattern ?? ''), 3);
  for (let block = 0; block < 0x20000; block += 1024) {
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
