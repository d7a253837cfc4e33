import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ConfigError } from '../../src/platform/errors.js';
import { buildEncoder, parseTokenizerFile, plainText } from '../../src/text/tokenizer-file.js';
import { damaged, fuzz, graftedJson, TEST_MS } from './support.js';

const path = fileURLToPath(new URL('../fixtures/tiny-model/tokenizer.json', import.meta.url));
const bytes = readFileSync(path);
const whole: unknown = JSON.parse(bytes.toString());
const words = [
  '"BPE"',
  '"Unigram"',
  '"type":',
  'null',
  '{',
  '}',
  '[',
  ']',
  '99999999999',
  '-1',
  '"\\ud800"',
  '"<unk>"',
  '"(a+)+$"',
];
const input = fc.oneof(
  { weight: 4, arbitrary: graftedJson([whole]).map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: damaged([bytes], words) },
);

test(
  'tokenizer.json',
  async () => {
    let good = 0;
    await fuzz('tokenizer.json', input, async (file) => {
      try {
        const parsed = parseTokenizerFile(path, file);
        for (const one of [parsed, plainText(parsed).file]) {
          const encoder = buildEncoder(path, one);
          await encoder.encode('Hello <|eos|> wörld \u0000 \u{1f600}').catch((error: unknown) => {
            // The library's own refusal of a text.
            expect(error).toBeInstanceOf(Error);
          });
        }
        good++;
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        expect(error.message).toContain(path);
      }
    });
    expect(good).toBeGreaterThan(0);
  },
  TEST_MS,
);
