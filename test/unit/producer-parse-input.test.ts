import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { InputError } from '../../src/platform/errors.js';
import { parseInput, readInlineDocument, type ParseOptions } from '../../src/producer/parse-input.js';
import { Spool } from '../../src/producer/spool.js';
import { anywhere } from '../support/source-policy.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-parse-'));
});
afterAll(() => rm(directory, { recursive: true }));

let spool: Spool;
beforeEach(async () => {
  spool = await Spool.open();
});
afterEach(() => spool.close());

async function parse(content: string | Buffer, options: Partial<ParseOptions> = {}) {
  const path = join(directory, 'requests.jsonl');
  await writeFile(path, content);
  return parseInput(path, spool, { model: 'demo', policy: anywhere, ...options });
}

const line = (change: object = {}) =>
  JSON.stringify({ custom_id: 'a', document: 'text', question: 'why?', ...change }) + '\n';
const raw = (custom_id: string, rest: string) => `{"custom_id":"${custom_id}",${rest}}\n`;

async function problemsOf(content: string | Buffer, options?: Partial<ParseOptions>): Promise<string[]> {
  const error = await parse(content, options).then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).problems.map((p) => `${p.line} ${p.field}: ${p.message}`);
}

test('a refused file also lists the documents that are not there, in the order of its lines', async () => {
  const problems = await problemsOf(line({ document: { path: 'absent.txt' } }) + 'no JSON\n');
  expect(problems).toEqual([
    expect.stringMatching(/^1 document\.path: .*absent\.txt does not exist/),
    expect.stringMatching(/^2 line: is not JSON/),
  ]);
});

describe('accepts', () => {
  test('every form of document, with defaults', async () => {
    const requests = await parse(
      '\uFEFF' +
        line() +
        '\r\n   \n' +
        line({
          custom_id: 'b',
          document: { path: 'b.txt' },
          question: undefined,
          questions: ['1', '2'],
          max_tokens: 5,
        }) +
        line({
          custom_id: 'c',
          document: { url: 's3://bucket/a b' },
          seed: 7,
          temperature: 0.5,
          metadata: { k: 'v' },
        }).trimEnd(),
    );
    const read = requests.map(async ({ document, text, ...rest }) => ({
      ...rest,
      key: document.key.slice(0, 12),
      text: await spool.readValue(text),
    }));
    const plain = { temperature: 0, seed: 0, metadata: null };
    expect(await Promise.all(read)).toEqual([
      {
        ...{ line: 1, custom_id: 'a', key: 'inline:982d9', max_tokens: 64, questions: 1, questionBytes: 6 },
        text: { questions: ['why?'], ...plain },
      },
      {
        ...{ line: 4, custom_id: 'b', key: 'path:b.txt', max_tokens: 5, questions: 2, questionBytes: 6 },
        text: { questions: ['1', '2'], ...plain },
      },
      {
        ...{ line: 5, custom_id: 'c', key: 'url:s3://buc', max_tokens: 64, questions: 1, questionBytes: 6 },
        text: { questions: ['why?'], temperature: 0.5, seed: 7, metadata: { k: 'v' } },
      },
    ]);
  });

  test('inline documents, read again from their line', async () => {
    const content = line({ document: 'Grüße 🙂\n' }) + line({ custom_id: 'b', document: 'second' });
    const requests = await parse(content);
    const path = join(directory, 'requests.jsonl');
    const read = (i: number) => {
      const { document, line: at } = requests[i] ?? {};
      if (document?.kind !== 'inline' || at === undefined) throw new Error('not inline');
      return readInlineDocument(path, at, document);
    };
    expect(await read(0)).toBe('Grüße 🙂\n');
    expect(await read(1)).toBe('second');
    await writeFile(path, content.replace('second', 'sec0nd'));
    await expect(read(1)).rejects.toThrow(/line 2, line: changed while it was read/);
    await writeFile(path, 'gone');
    await expect(read(1)).rejects.toThrow(/changed while it was read/);
  });
});

describe('refuses', () => {
  const cases: [name: string, content: string | Buffer, problems: (string | RegExp)[]][] = [
    ['an empty file', '', [/^0 file: has no requests/]],
    ['a blank file', '\n \n', [/^0 file: has no requests/]],
    ['bad JSON', line() + '{"custom_id": "b",\n', [/^2 line: is not JSON: /]],
    [
      'a line that is not an object',
      '[1]\n"x"\nnull\n',
      [/^1 line: must be a JSON object, not \[1\]/, /^2 line: .*not "x"/, /^3 line: .*not null/],
    ],
    [
      'bad UTF-8',
      Buffer.concat([Buffer.from(line()), Buffer.from('{"custom_id":"caf\xe9"}\n', 'latin1')]),
      [/^2 line: is not UTF-8: byte 0xe9 at offset 17/],
    ],
    [
      'an unknown field, with a hint',
      line({ max_token: 5 }),
      ['1 max_token: unknown field; did you mean "max_tokens"?'],
    ],
    [
      'a misspelt required field',
      raw('a', '"documnet":"t","question":"q"'),
      ['1 documnet: unknown field; did you mean "document"?', '1 document: is missing'],
    ],
    [
      'an unknown field without a near one',
      line({ zzz: 1 }),
      [/^1 zzz: unknown field; known fields: custom_id, document/],
    ],
    ['a missing document', raw('a', '"question":"q"'), ['1 document: is missing']],
    ['a missing custom_id', '{"document":"d","question":"q"}\n', ['1 custom_id: is missing']],
    [
      'no question',
      raw('a', '"document":"d"'),
      ['1 question: give exactly one of "question" and "questions"'],
    ],
    [
      'both question and questions',
      line({ questions: ['x'] }),
      ['1 question: give exactly one of "question" and "questions"'],
    ],
    ['an empty question', line({ question: '' }), [/^1 question: /]],
    ['an empty document', line({ document: '' }), ['1 document: the text is empty']],
    ['a document of another type', line({ document: 5 }), [/^1 document: must be a text, .* not 5/]],
    ['an empty document object', line({ document: {} }), [/^1 document: must be a text, .*: one of them/]],
    [
      'two document sources',
      line({ document: { path: 'a', url: 's3://b/c' } }),
      [/^1 document: .*one of them/],
    ],
    [
      'an unknown document field',
      line({ document: { pth: 'a' } }),
      ['1 document.pth: unknown field; did you mean "path"?'],
    ],
    [
      'a path of another type',
      line({ document: { path: 3 } }),
      [/^1 document.path: must be a text that is not empty, not 3/],
    ],
    [
      'another kind of URL',
      line({ document: { url: 'ftp://a/b' } }),
      [/^1 document.url: must be s3:\/\/bucket\/key or https:\/\/..., not "ftp:/],
    ],
    [
      'a URL without a host, and a format that nobody reads',
      line({ document: { url: 'https://[1' } }) +
        line({ custom_id: 'b', document: { path: 'a', format: 'pdf' } }),
      [/^1 document.url: must be/, /^2 document.format: must be text, markdown, html, not "pdf"/],
    ],
    [
      'wrong types, with the path of the field',
      line({ question: undefined, questions: ['x', 5], max_tokens: '7', metadata: { k: 1 } }),
      [/^1 questions\[1\]: /, /^1 max_tokens: /, /^1 metadata.k: /],
    ],
    [
      'numbers out of range',
      line({ max_tokens: 0, temperature: 3, seed: 1.5 }),
      [/^1 max_tokens: /, /^1 temperature: /, /^1 seed: /],
    ],
    [
      'half a surrogate pair',
      raw('a', '"document":"x\\ud800y","question":"q"'),
      [/^1 document: contains half a surrogate pair/],
    ],
    [
      'half a surrogate pair in a question',
      raw('a', '"document":"d","questions":["q","\\udc00"]'),
      [/^1 questions\[1\]: contains half/],
    ],
    [
      'a duplicate custom_id',
      line() + line({ custom_id: 'b' }) + line(),
      ['3 custom_id: "a" is already used on line 1; every request needs its own'],
    ],
    [
      'too many answer tokens',
      line({ question: undefined, questions: Array(64).fill('q'), max_tokens: 300 }),
      [/^1 max_tokens: 64 questions x 300 tokens = 19200, above the 16384/],
    ],
    ['too many questions', line({ question: undefined, questions: Array(65).fill('q') }), [/^1 questions: /]],
    [
      'questions that are too large',
      line({ question: 'q'.repeat(70_000) }),
      [/^1 question: 70002 bytes of questions, above the 65536/],
    ],
  ];
  test.each(cases)('%s', async (_name, content, expected) => {
    const problems = await problemsOf(content);
    expect(problems).toHaveLength(expected.length);
    expected.forEach((e, i) =>
      expect(problems[i]).toEqual(typeof e === 'string' ? e : expect.stringMatching(e)),
    );
  });

  test('a line that is too long, and goes on behind it', async () => {
    const content = line({ document: 'x'.repeat(2_000) }) + line({ custom_id: 'b' }) + '{\n';
    expect(await problemsOf(content, { maxLineBytes: 1_000 })).toEqual([
      expect.stringMatching(/^1 line: is longer than 1000 bytes; put the document into a file/),
      expect.stringMatching(/^3 line: is not JSON/),
    ]);
  });

  test('a line nested so deep that recursion would not bear it', async () => {
    const deep = raw('deep', `"metadata":${'['.repeat(200_000)}1${']'.repeat(200_000)}`);
    expect(await problemsOf(line() + deep)).toEqual(['2 line: is nested more than 32 deep']);
  });

  test('lists all problems of all lines, also duplicates among bad lines', async () => {
    const content =
      line({ zzz: 1, max_tokens: -1 }) + '{\n' + line({ seed: 'x' }) + line({ custom_id: 'ok' });
    const problems = await problemsOf(content);
    expect(problems.map((p) => p.split(':')[0])).toEqual([
      '1 zzz',
      '1 max_tokens',
      '2 line',
      '3 seed',
      '3 custom_id',
    ]);
  });

  test('what is not a file', async () => {
    const of = (path: string) => parseInput(path, spool, { model: 'demo', policy: anywhere });
    await expect(of(join(directory, 'absent'))).rejects.toThrow(/line 0, file: does not exist/);
    await expect(of(directory)).rejects.toThrow(/not a regular file/);
  });

  test('with the first hundred of many problems, and says how many there are', async () => {
    const bad = Array.from({ length: 250 }, (_, i) => line({ custom_id: `${i}`, seed: -1 })).join('');
    const error = await parse(bad).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(InputError);
    const { problems, total, message } = error as InputError;
    expect(problems.map((p) => p.line)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    expect(total).toBe(250);
    expect(message).toMatch(/250 problems, nothing was submitted\n {2}line 1, seed: .*\n {2}and 150 more$/s);
    expect(message.split('\n')).toHaveLength(102);
  });

  test('nothing after an abort', async () => {
    await expect(parse(line(), { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });
});
