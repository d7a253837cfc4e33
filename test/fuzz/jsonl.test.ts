import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { InputError } from '../../src/platform/errors.js';
import { parseInput, readInlineDocument } from '../../src/producer/parse-input.js';
import { Spool } from '../../src/producer/spool.js';
import { anywhere } from '../support/source-policy.js';
import { chatLine, damaged, fuzz, graftedJson, TEST_MS } from './support.js';

let directory: string;
let spool: Spool;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-fuzz-'));
  spool = await Spool.open();
});
afterAll(async () => {
  await spool.close();
  await rm(directory, { recursive: true });
});

const lines = [
  { custom_id: 'a', document: 'Some text.', question: 'What?' },
  {
    custom_id: 'b',
    document: { path: 'book.md', format: 'markdown' },
    questions: ['One?', 'Two?'],
    max_tokens: 7,
    temperature: 0.5,
    seed: 3,
    metadata: { from: 'x' },
  },
  { custom_id: 'c', document: { url: 'https://example.org/a.html' }, question: 'Why?' },
  chatLine('d'),
];
const words = [
  '\n',
  '\r\n',
  '\u2028',
  '\ufeff',
  '"',
  '\\',
  '\\ud800',
  '\xff',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '[['.repeat(500),
];
const line = fc.oneof(
  { weight: 3, arbitrary: graftedJson(lines).map((text) => Buffer.from(text)) },
  {
    weight: 2,
    arbitrary: damaged(
      lines.map((value) => JSON.stringify(value)),
      [...words, Buffer.from([0xed, 0xa0, 0x80])],
    ),
  },
);

test(
  'request lines',
  async () => {
    const path = join(directory, 'requests.jsonl');
    let good = 0;
    await fuzz('request lines', fc.array(line, { minLength: 1, maxLength: 4 }), async (input) => {
      const file = Buffer.concat(input.flatMap((one) => [one, Buffer.from('\n')]));
      await writeFile(path, file);
      try {
        const requests = await parseInput(path, spool, {
          model: 'demo',
          policy: anywhere,
          maxLineBytes: 50_000,
        });
        good += requests.length;
        for (const { line, document } of requests)
          if (document.kind === 'inline')
            expect(typeof (await readInlineDocument(path, line, document))).toBe('string');
        expect(new Set(requests.map((request) => request.custom_id)).size).toBe(requests.length);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        // Every problem is tied to a line that is there, and its text is bounded.
        const most = file.filter((byte) => byte === 0x0a).length;
        for (const problem of error.problems) expect(problem.line).toBeLessThanOrEqual(most);
        expect(error.message.length).toBeLessThan(1_000_000);
      }
    });
    expect(good).toBeGreaterThan(0);
  },
  TEST_MS,
);
