/** Lines whose shape follows OpenAI's documentation of its Batch API and of chat completions. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkChatLine, isChatLine } from '../../src/producer/chat-line.js';
import { checkLine } from '../../src/producer/check-line.js';
import { encodeQueries } from '../../src/producer/encode-queries.js';
import { parseInput, readInlineDocument } from '../../src/producer/parse-input.js';
import { Spool } from '../../src/producer/spool.js';
import { anywhere } from '../support/source-policy.js';
import { TemplateError } from '../../src/text/render-template.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';

type Message = Record<string, unknown>;
const talk: Message[] = [
  { role: 'system', content: 'You answer from the report.' },
  { role: 'user', content: 'The report: the sky is blue.' },
  { role: 'user', content: 'What colour is the sky?' },
];
const line = (body: object = {}, top: object = {}) => ({
  custom_id: 'request-1',
  method: 'POST',
  url: '/v1/chat/completions',
  body: { model: 'demo', messages: talk, max_tokens: 100, ...body },
  ...top,
});
function accepted(value: Record<string, unknown>) {
  const checked = checkChatLine(value, 'demo');
  if ('problems' in checked) throw new Error(JSON.stringify(checked.problems));
  return checked.request;
}
function problems(value: Record<string, unknown>): string[] {
  const checked = checkChatLine(value, 'demo');
  return 'problems' in checked ? checked.problems.map((p) => `${p.field}: ${p.message}`) : [];
}

describe('an OpenAI line', () => {
  test('the last message is the question, those before it are the document', () => {
    expect(accepted(line())).toEqual({
      custom_id: 'request-1',
      messages: talk.slice(0, 2),
      document: 'You answer from the report.\n\nThe report: the sky is blue.',
      questions: ['What colour is the sky?'],
      max_tokens: 100,
      temperature: 0,
      seed: 0,
      metadata: null,
      chat_model: 'demo',
    });
  });

  test('a conversation says who speaks', () => {
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
      { role: 'assistant', content: 'Hi', refusal: null },
      { role: 'user', content: 'And now?' },
    ];
    expect(accepted(line({ messages })).document).toBe('System: Be brief.\n\nUser: Hello\n\nAssistant: Hi');
  });

  test('text parts are joined by line breaks', () => {
    const text = (value: string) => ({ type: 'text', text: value });
    const messages = [
      { role: 'user', content: [text('one'), text('two')] },
      { role: 'user', content: [text('q?')] },
    ];
    expect(accepted(line({ messages }))).toMatchObject({ document: 'one\ntwo', questions: ['q?'] });
  });

  test('takes max_completion_tokens, temperature, seed, metadata, and fields that ask for nothing', () => {
    const harmless = { n: 1, stream: false, top_p: 1, tools: [], stop: null, user: 'u', logprobs: false };
    const body = {
      max_tokens: undefined,
      max_completion_tokens: 7,
      temperature: 0.5,
      seed: 3,
      metadata: { k: 'v' },
    };
    const value = JSON.parse(JSON.stringify(line({ ...body, ...harmless }))) as Record<string, unknown>;
    expect(accepted(value)).toMatchObject({ max_tokens: 7, temperature: 0.5, seed: 3, metadata: { k: 'v' } });
  });

  const image = { type: 'image_url', image_url: { url: 'https://a/b.png' } };
  const cases: [name: string, value: Record<string, unknown>, found: (string | RegExp)[]][] = [
    ['n above 1', line({ n: 2 }), [/^body\.n: 2 is not supported/]],
    ['stream', line({ stream: true }), [/^body\.stream: true is not supported/]],
    ['tools', line({ tools: [{ type: 'function' }] }), [/^body\.tools: \[\{"type":"function"\}\] is not/]],
    ['logprobs', line({ logprobs: true, top_logprobs: 3 }), [/^body\.logprobs/, /^body\.top_logprobs/]],
    ['response_format', line({ response_format: { type: 'json_object' } }), [/^body\.response_format/]],
    ['top_p', line({ top_p: 0.5 }), [/^body\.top_p/]],
    [
      'an unknown field',
      line({ max_token: 5 }),
      ['body.max_token: unknown field; did you mean "max_tokens"?'],
    ],
    ['a field that every object has', line({ constructor: 1 }), [/^body\.constructor: unknown field/]],
    ['a field beside the body', line({}, { document: 'x' }), [/^document: unknown field/]],
    ['another method', line({}, { method: 'GET' }), ['method: must be "POST", not "GET"']],
    ['another endpoint', line({}, { url: '/v1/embeddings' }), [/^url: must be "\/v1\/chat\/completions"/]],
    ['no custom_id', line({}, { custom_id: undefined }), ['custom_id: is missing']],
    ['another model', line({ model: 'gpt-4o' }), [/^body\.model: "gpt-4o" is not served here, "demo" is;/]],
    ['no model', line({ model: undefined }), ['body.model: is missing']],
    ['no messages', line({ messages: undefined }), ['body.messages: is missing']],
    ['only a question', line({ messages: talk.slice(2) }), [/^body\.messages: needs two messages or more/]],
    [
      'an answer last',
      line({ messages: [...talk, { role: 'assistant', content: 'b' }] }),
      [/^body\.messages\[3\]\.role: must be "user"/],
    ],
    [
      'an image',
      line({ messages: [{ role: 'user', content: [image] }, ...talk] }),
      [/^body\.messages\[0\]\.content\[0\]\.type: "image_url" is not supported: longhaul reads text alone/],
    ],
    [
      'a tool’s message',
      line({ messages: [{ role: 'tool', content: 'x', tool_call_id: '1' }, ...talk] }),
      [/^body\.messages\[0\]\.tool_call_id: is not supported/, /^body\.messages\[0\]\.role: must be one of/],
    ],
    [
      'no content',
      line({ messages: [{ role: 'user', content: null }, ...talk] }),
      [/^body\.messages\[0\]\.content: must be text/],
    ],
    [
      'an empty document',
      line({ messages: [{ role: 'system', content: '' }, talk[2]] }),
      [/^body\.messages: has no text before the question/],
    ],
    [
      'an empty question',
      line({ messages: [talk[0], { role: 'user', content: '' }] }),
      [/^body\.messages\[1\]\.content: is empty/],
    ],
    [
      'both limits',
      line({ max_completion_tokens: 5 }),
      [/^body\.max_completion_tokens: is 5 and max_tokens is 100/],
    ],
    [
      'numbers out of range',
      line({ max_tokens: 0, temperature: 3, seed: -1 }),
      [/^body\.max_tokens/, /^body\.temperature/, /^body\.seed/],
    ],
    [
      'half a surrogate pair',
      line({ messages: [{ role: 'user', content: '\ud800' }, talk[2]] }),
      [/^body\.messages\[0\]\.content: contains half/],
    ],
    [
      'a question that is too large',
      line({ messages: [talk[0], { role: 'user', content: 'q'.repeat(70_000) }] }),
      [/^body\.messages\[1\]\.content: 70002 bytes/],
    ],
    ['a body that is none', line({}, { body: 'x' }), ['body: must be an object, not "x"']],
  ];
  test.each(cases)('is refused by name with %s', (_name, value, expected) => {
    const found = problems(JSON.parse(JSON.stringify(value)) as Record<string, unknown>);
    expect(found).toHaveLength(expected.length);
    expected.forEach((e, i) =>
      expect(found[i]).toEqual(typeof e === 'string' ? e : expect.stringMatching(e)),
    );
  });
});

test('each line says its style itself', () => {
  expect(isChatLine(line())).toBe(true);
  expect(isChatLine({ custom_id: 'a', document: { url: 's3://b/k' }, question: 'q' })).toBe(false);
  expect(checkLine(line())).toHaveProperty('problems');
});

describe('a file', () => {
  let directory: string;
  beforeAll(async () => void (directory = await mkdtemp(join(tmpdir(), 'longhaul-chat-'))));
  afterAll(() => rm(directory, { recursive: true }));

  test('of both styles: requests with the same text before the question share a document', async () => {
    const path = join(directory, 'requests.jsonl');
    const own = {
      custom_id: 'own',
      document: 'You answer from the report.\n\nThe report: the sky is blue.',
      question: 'q',
    };
    const again = line({ messages: [...talk.slice(0, 2), { role: 'user', content: 'And the sun?' }] });
    const lines = [line(), own, { ...again, custom_id: 'request-2' }];
    await writeFile(path, lines.map((value) => JSON.stringify(value) + '\n').join(''));
    const spool = await Spool.open();
    try {
      const requests = await parseInput(path, spool, { model: 'demo', policy: anywhere });
      expect(new Set(requests.map(({ document }) => document.key)).size).toBe(1);
      expect(await Promise.all(requests.map(({ text }) => spool.readValue(text)))).toMatchObject([
        { questions: ['What colour is the sky?'], chat_model: 'demo' },
        { questions: ['q'] },
        { questions: ['And the sun?'], chat_model: 'demo' },
      ]);
      const ref = requests[0]?.document;
      if (ref?.kind !== 'inline') throw new Error('not inline');
      expect(await readInlineDocument(path, 1, ref)).toBe(own.document);
    } finally {
      await spool.close();
    }
  });

  test('for a model with a chat template: messages keep their roles, and share a document only with the same ones', async () => {
    const path = join(directory, 'roles.jsonl');
    const user = talk.slice(0, 2).map(({ content }) => ({ role: 'user', content }));
    const asked = { role: 'user', content: 'And the sun?' };
    const lines = [
      line(),
      { ...line({ messages: [...talk.slice(0, 2), asked] }), custom_id: 'same' },
      { ...line({ messages: [...user, asked] }), custom_id: 'other roles' },
    ];
    await writeFile(path, lines.map((value) => JSON.stringify(value) + '\n').join(''));
    const spool = await Spool.open();
    try {
      const requests = await parseInput(path, spool, { model: 'demo', roles: true, policy: anywhere });
      const [first, same, other] = requests.map(({ document }) => document);
      expect(same).toBe(first);
      expect(other?.key).not.toBe(first?.key);
      if (first?.kind !== 'inline') throw new Error('not inline');
      expect(first.roles).toEqual(talk.slice(0, 2).map(({ role }) => role));
      expect(await readInlineDocument(path, 1, first)).toEqual(talk.slice(0, 2));

      const asks: string[] = [];
      const conversation = {
        encodeQuery: (roles: readonly string[], question: string) => {
          asks.push(`${roles.join()}: ${question}`);
          if (roles[0] === 'user') return Promise.reject(new TemplateError('roles must alternate'));
          return Promise.resolve([1, 2]);
        },
      };
      const tokenizer = { conversation } as unknown as Tokenizer;
      await expect(
        encodeQueries({ file: path, spool, tokenizer }, requests, { room: 9, anchor: 9 }),
      ).rejects.toMatchObject({
        problems: [{ line: 3, field: 'body.messages', message: 'roles must alternate' }],
      });
      expect(asks.toSorted()).toEqual([
        'system,user: And the sun?',
        'system,user: What colour is the sky?',
        'user,user: And the sun?',
      ]);
    } finally {
      await spool.close();
    }
  });
});
