import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EncoderPool } from '../../src/text/encoder-pool.js';
import { concat } from '../../src/text/concat.js';
import { realTokenizer, realTokenizerFile, realTokenizers, reference } from '../support/real-tokenizers.js';

/** The bound of the design is 50 ms; a machine that tests run on side by side is given more. */
const BLOCKED_MS = 250;
/** The operating system may hold up a loop as well; it does not do so each time. */
const RETRIED = { retry: 2, timeout: 60_000 };

async function encode(pool: EncoderPool, text: string | Iterable<string>, signal?: AbortSignal) {
  const runs: Uint32Array[] = [];
  for await (const run of pool.encode(text, signal)) runs.push(run);
  return concat(runs);
}

/** About `length` characters; no sentence comes twice. */
function prose(length: number): string {
  const sentences: string[] = [];
  for (let at = 0, size = 0; size < length; at++) {
    const sentence = `Ship ${at} left the harbour in ${1500 + (at % 400)}, bound for port ${at % 97}, said the "clerk".\n`;
    sentences.push(sentence);
    size += sentence.length;
  }
  return sentences.join('');
}

describe.each(realTokenizers)('%s', (name) => {
  let pool: EncoderPool;
  let whole: (text: string) => Promise<number[]>;
  beforeAll(async () => {
    pool = new EncoderPool(`${realTokenizer(name)}/tokenizer.json`, 2);
    whole = reference(realTokenizerFile(name));
    await encode(pool, 'loaded');
  }, 60_000);
  afterAll(() => pool.close());

  test('documents of ten megabytes, two at a time, leave the event loop free', RETRIED, async () => {
    const text = prose(10_000_000);
    const letters = 'a'.repeat(500_000) + '\u0001'.repeat(2_000_000);
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const found = await Promise.all([encode(pool, text), encode(pool, letters), encode(pool, text)]);
    delay.disable();
    expect(found[0].length).toBeGreaterThan(2_500_000);
    expect(Buffer.from(found[0].buffer).equals(Buffer.from(found[2].buffer))).toBe(true);
    expect(found[1].length).toBe(500_000 / 8 + 2_000_000);
    expect(delay.max / 1e6).toBeLessThan(BLOCKED_MS);
    const part = text.slice(0, text.indexOf('\n', 300_000) + 1);
    const expected = await whole(part);
    expect([...found[0].subarray(0, expected.length)]).toEqual(expected);
  });

  test('text may come in pieces cut anywhere, inside a pair of surrogates too', async () => {
    const text = 'Ships 🚢🚢 and 👩‍👩‍👧 left; '.repeat(3);
    const expected = await whole(text);
    for (const size of [1, 2, 7]) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
        text.slice(i * size, (i + 1) * size),
      );
      expect([...(await encode(pool, pieces))]).toEqual(expected);
    }
    expect([...(await encode(pool, []))]).toEqual([]);
  });

  test('half a surrogate pair is refused with its place', async () => {
    const cases: [string, number][] = [
      ['\ud83d', 0],
      ['ab\udea2', 2],
      ['x'.repeat(300_000) + '\ud83d' + 'y'.repeat(300_000), 300_000],
      ['x'.repeat((1 << 17) - 1) + '\ud83d', (1 << 17) - 1],
    ];
    for (const [text, offset] of cases) {
      const refusal = {
        code: 'BAD_TEXT',
        offset,
        message: expect.stringContaining(`unit ${offset},`) as string,
      };
      await expect(encode(pool, text)).rejects.toMatchObject(refusal);
      await expect(encode(pool, [text.slice(0, 1), text.slice(1)])).rejects.toMatchObject(refusal);
    }
  });

  test('an abort ends the work on a text, and the thread serves the next', async () => {
    const controller = new AbortController();
    const letters = 'a'.repeat(20_000_000);
    const encoding = encode(pool, letters, controller.signal);
    setTimeout(() => {
      controller.abort();
    }, 100);
    await expect(encoding).rejects.toThrow('aborted');
    expect([...(await encode(pool, 'The sky'))]).toEqual(await whole('The sky'));
  }, 30_000);
});

test('more texts than threads wait their turn, and threads that end are replaced', async () => {
  const pool = new EncoderPool(`${realTokenizer('qwen3')}/tokenizer.json`, 1);
  const texts = Array.from({ length: 20 }, (_, i) => `Text ${i}. `.repeat(i));
  const alone: Uint32Array[] = [];
  for (const text of texts) alone.push(await encode(pool, text));
  expect(await Promise.all(texts.map((text) => encode(pool, text)))).toEqual(alone);
  await pool.close();
  expect(await encode(pool, texts[3] ?? '')).toEqual(alone[3]);
  await pool.close();
  const missing = new EncoderPool('/nowhere/tokenizer.json', 2);
  const both = await Promise.allSettled([encode(missing, 'a'), encode(missing, 'b')]);
  for (const result of both) {
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'CONFIG' } });
  }
}, 60_000);
