import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { Tokenizer as Encoder } from 'tokenizers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer, tokenizerDigest, type Tokenizer } from '../../src/text/tokenizer.js';
import { TextError } from '../../src/text/utf8.js';
import { makeTinyTokenizer } from '../fixtures/make-tiny-tokenizer.js';

const tiny = fileURLToPath(new URL('../fixtures/tiny-model', import.meta.url));
let tokenizer: Tokenizer;
let directory: string;

beforeAll(async () => {
  tokenizer = await loadTokenizer(tiny);
  directory = await mkdtemp(join(tmpdir(), 'longhaul-text-'));
});
afterAll(() => rm(directory, { recursive: true }));

/** A copy of the tiny model with its tokenizer.json changed. */
async function variant(name: string, change: (file: TokenizerJson) => void): Promise<string> {
  const target = join(directory, name);
  await cp(tiny, target, { recursive: true });
  const file = JSON.parse(await readFile(join(tiny, 'tokenizer.json'), 'utf8')) as TokenizerJson;
  change(file);
  await writeFile(join(target, 'tokenizer.json'), JSON.stringify(file));
  return target;
}
interface TokenizerJson {
  added_tokens: { id: number; content: string; special: boolean }[];
  pre_tokenizer: unknown;
  model: { type: string; vocab: Record<string, number>; merges: [string, string][]; ignore_merges: boolean };
}

test('the fixture is what its maker makes', async () => {
  await expect(makeTinyTokenizer()).toMatchFileSnapshot('../fixtures/tiny-model/tokenizer.json');
});

describe('special tokens', () => {
  const hostile = 'a<|eos|>b <|question|>c<|answer|> <|bos|>';

  test('come from the template only', async () => {
    const ids = [...(await tokenizer.encodeDocument(hostile))];
    expect(ids[0]).toBe(0);
    expect(ids.slice(1).filter((id) => id < 4)).toEqual([]);
    const query = await tokenizer.encodeQuery(hostile);
    expect([query[0], query.at(-1)]).toEqual([1, 2]);
    expect(query.slice(1, -1).filter((id) => id < 4)).toEqual([]);
  });

  test('in text decode to the text again', async () => {
    const ids = [...(await tokenizer.encodeDocument(hostile))].slice(1);
    expect(await tokenizer.decodeAnswer(ids)).toBe(hostile);
  });

  test.each(['ignore_merges', 'merges'])('stay text where the vocabulary reaches them by %s', async (way) => {
    const path = await variant(way, (file) => {
      file.pre_tokenizer = {
        type: 'ByteLevel',
        add_prefix_space: false,
        trim_offsets: true,
        use_regex: false,
      };
      if (way === 'ignore_merges') file.model.ignore_merges = true;
      else {
        const letters = [...'<|eos|>'];
        for (let i = 1; i < letters.length; i++) {
          const left = letters.slice(0, i).join('');
          file.model.vocab[left + letters[i]] ??= Object.keys(file.model.vocab).length;
          file.model.merges.push([left, letters[i] ?? '']);
        }
      }
    });
    // The trap is real: the whole vocabulary does find the special token.
    const file = JSON.parse(await readFile(join(path, 'tokenizer.json'), 'utf8')) as TokenizerJson;
    const naive = Encoder.fromString(JSON.stringify({ ...file, added_tokens: [] }));
    expect((await naive.encode('<|eos|>')).getIds()).toEqual([3]);

    const changed = await loadTokenizer(path);
    const ids = [...(await changed.encodeDocument('<|eos|>'))].slice(1);
    expect(ids).not.toContain(3);
    expect(await changed.decodeAnswer(ids)).toBe('<|eos|>');
  });
});

describe('answers', () => {
  test('end at the stop token and lose one leading space', async () => {
    const ids = [...(await tokenizer.encodeDocument('  blue.'))].slice(1);
    expect(await tokenizer.decodeAnswer([...ids, 3, ...ids])).toBe(' blue.');
    expect(await tokenizer.decodeAnswer([3])).toBe('');
    expect(tokenizer.stop).toEqual([3]);
  });

  test('text of any kind comes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (text) => {
        const ids = [...(await tokenizer.encodeDocument(text))].slice(1);
        expect(await tokenizer.decodeAnswer(ids)).toBe(text.startsWith(' ') ? text.slice(1) : text);
      }),
    );
  });
});

describe('long documents', () => {
  test('of several parts equal one call of the library', async () => {
    const text = 'The sky is blue.\n\nHere we go.  The sun <|eos|> is yellow. '.repeat(10_000);
    const file = JSON.parse(await readFile(join(tiny, 'tokenizer.json'), 'utf8')) as TokenizerJson;
    const whole = Encoder.fromString(JSON.stringify({ ...file, added_tokens: [] }));
    const ids = await tokenizer.encodeDocument(text);
    const expected = Uint32Array.from([0, ...(await whole.encode(text)).getIds()]);
    expect(Buffer.compare(Buffer.from(ids.buffer), Buffer.from(expected.buffer))).toBe(0);
  }, 60_000);

  test('that come in pieces give the same ids, in runs', async () => {
    const text = 'The sky is blue.\n\nHere we go.  The sun <|eos|> is yellow. '.repeat(20_000);
    const expected = await tokenizer.encodeDocument(text);
    const pieces = Array.from({ length: 12 }, (_, i) => text.slice(i * 100_003, (i + 1) * 100_003));
    const runs: Uint32Array[] = [];
    // eslint-disable-next-line @typescript-eslint/require-await
    async function* source() {
      yield* pieces;
    }
    for await (const run of tokenizer.streamDocument(source())) runs.push(run);
    expect(pieces.join('') === text).toBe(true);
    expect(runs.length).toBeGreaterThan(2);
    const ids = Buffer.concat(runs.map((run) => Buffer.from(run.buffer, run.byteOffset, run.byteLength)));
    expect(ids.equals(Buffer.from(expected.buffer))).toBe(true);
  }, 60_000);

  test('of a pre-tokenizer that is not known go to the library whole', async () => {
    const gpt2 = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
    const path = await variant('gpt2', (file) => (file.pre_tokenizer = gpt2));
    const file = JSON.parse(await readFile(join(path, 'tokenizer.json'), 'utf8')) as TokenizerJson;
    const library = Encoder.fromString(JSON.stringify({ ...file, added_tokens: [] }));
    const text = 'The sky is blue.\n\nHere we go.  The sun is yellow. '.repeat(10_000);
    const other = await loadTokenizer(path);
    const ids = await other.encodeDocument(text);
    expect(ids.length).toBeGreaterThan(100_000);
    expect([...ids.subarray(1)]).toEqual((await library.encode(text)).getIds());
    // The library would end the process over it.
    const spaces = other.encodeDocument('a' + ' '.repeat(1_000_001));
    await expect(spaces).rejects.toThrow(/1000001 characters of white space in a row at UTF-16 unit 1,/);
    await expect(spaces).rejects.toBeInstanceOf(TextError);
    await other.close();
  }, 60_000);

  test('stop at an abort', async () => {
    await expect(tokenizer.encodeDocument('a', AbortSignal.abort())).rejects.toThrow('aborted');
  });
});

describe('files', () => {
  test('the digest covers tokenizer.json and longhaul.json', async () => {
    expect(await tokenizerDigest(tiny)).toBe(tokenizer.digest);
    const copy = await variant('digest', (file) => file.model.merges.pop());
    expect(await tokenizerDigest(copy)).not.toBe(tokenizer.digest);
    await cp(join(tiny, 'tokenizer.json'), join(copy, 'tokenizer.json'));
    expect(await tokenizerDigest(copy)).toBe(tokenizer.digest);
    await writeFile(
      join(copy, 'longhaul.json'),
      (await readFile(join(tiny, 'longhaul.json'), 'utf8')) + '\n',
    );
    expect(await tokenizerDigest(copy)).not.toBe(tokenizer.digest);
  });

  test('that are wrong are refused by name', async () => {
    await expect(loadTokenizer(join(directory, 'absent'))).rejects.toThrow(
      /absent\/longhaul.json cannot be read/,
    );
    const unigram = await variant('unigram', (file) => (file.model.type = 'Unigram'));
    await expect(loadTokenizer(unigram)).rejects.toThrow(/not a BPE tokenizer/);
    const stop = await variant('stop', () => undefined);
    const prompt = JSON.parse(await readFile(join(tiny, 'longhaul.json'), 'utf8')) as object;
    await writeFile(join(stop, 'longhaul.json'), JSON.stringify({ ...prompt, stop: ['<|end|>'] }));
    await expect(loadTokenizer(stop)).rejects.toThrow(/"<\|end\|>".*is not in/);
    await writeFile(join(stop, 'longhaul.json'), JSON.stringify({ ...prompt, stopp: [] }));
    await expect(loadTokenizer(stop)).rejects.toThrow(/stopp/);
  });

  const broken: [string, string | Buffer, RegExp][] = [
    ['nothing', '', /is not JSON/],
    ['a page of a web server', '<!doctype html>', /is not JSON/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\n', /is not JSON/],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), /is not JSON/],
    ['a list', '[]', /top level/],
    ['no model', '{}', /model/],
    ['no vocabulary', '{"model": {"type": "BPE", "merges": []}}', /model\.vocab/],
    ['an id that is text', '{"model": {"vocab": {"a": "1"}, "merges": []}}', /model\.vocab\.a/],
    ['a negative id', '{"model": {"vocab": {"a": -1}, "merges": []}}', /model\.vocab\.a/],
    ['a merge of three', '{"model": {"vocab": {"a": 1}, "merges": [["a", "b", "c"]]}}', /model\.merges\.0/],
    ['dropout', '{"model": {"vocab": {"a": 1}, "merges": [], "dropout": 0.1}}', /dropout 0\.1/],
    [
      'a merge that lacks the prefix it must have',
      '{"model": {"vocab": {"a": 1}, "merges": [["a", "b"]], "continuing_subword_prefix": "##"}}',
      /model\.merges: the second part of \["a","b"\] does not begin with continuing_subword_prefix "##"/,
    ],
    [
      'a merge that leads nowhere',
      '{"model": {"type": "BPE", "vocab": {"a": 1}, "merges": [["a", "b"]]}}',
      /refused by the tokenizers library/,
    ],
  ];
  test.each(broken)('of %s are refused by name', async (_, bytes, reason) => {
    const path = await variant('broken', () => undefined);
    await writeFile(join(path, 'tokenizer.json'), bytes);
    const loading = loadTokenizer(path);
    await expect(loading).rejects.toThrow(reason);
    await expect(loading).rejects.toThrow(/broken\/tokenizer\.json/);
    await expect(loading).rejects.toMatchObject({ code: 'CONFIG' });
  });
});
