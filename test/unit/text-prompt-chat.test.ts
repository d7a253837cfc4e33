import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Encoder } from 'tokenizers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ChatMessage,
  chatPieces,
  readChatTemplate,
  renderChat,
  type ChatTemplate,
} from '../../src/text/chat-template.js';
import { modelName } from '../../src/text/model-prompt.js';
import { renderTemplate } from '../../src/text/render-template.js';
import { loadTokenizer, tokenizerDigest, type Tokenizer } from '../../src/text/tokenizer.js';
import { realTokenizer, type RealTokenizer } from '../support/real-tokenizers.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-chat-'));
});
afterAll(() => rm(directory, { recursive: true }));

/** A model directory of links to the published files, and of files of its own. */
async function modelDir(name: string, links: Record<string, string>, files: Record<string, unknown>) {
  const path = join(directory, name);
  await mkdir(path);
  for (const [file, target] of Object.entries(links)) await symlink(target, join(path, file));
  for (const [file, content] of Object.entries(files)) {
    await writeFile(join(path, file), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return path;
}

async function published(name: RealTokenizer, files: Record<string, unknown>): Promise<string> {
  const folder = realTokenizer(name);
  const links = Object.fromEntries(
    ['tokenizer.json', 'tokenizer_config.json'].map((file) => [file, join(folder, file)]),
  );
  return modelDir(name, links, files);
}

const conversation = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'It rained on Monday.' },
  { role: 'assistant', content: 'Noted.' },
  { role: 'user', content: 'When did it rain?' },
] as const;

const models = [
  {
    name: 'llama3_1',
    files: { 'generation_config.json': { eos_token_id: [128001, 128008, 128009] } },
    stop: [128001, 128008, 128009],
    rendered:
      '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>' +
      '<|start_header_id|>user<|end_header_id|>\n\nIt rained on Monday.<|eot_id|>' +
      '<|start_header_id|>assistant<|end_header_id|>\n\nNoted.<|eot_id|>' +
      '<|start_header_id|>user<|end_header_id|>\n\nWhen did it rain?<|eot_id|>' +
      '<|start_header_id|>assistant<|end_header_id|>\n\n',
    head: '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n',
    tail: '<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
    special: '<|eot_id|><|begin_of_text|><|end_of_text|>',
  },
  {
    name: 'qwen3',
    files: { 'config.json': { eos_token_id: 151645, max_position_embeddings: 40960 } },
    stop: [151645],
    rendered:
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nIt rained on Monday.<|im_end|>\n' +
      '<|im_start|>assistant\nNoted.<|im_end|>\n<|im_start|>user\nWhen did it rain?<|im_end|>\n' +
      '<|im_start|>assistant\n<think>\n\n</think>\n\n',
    head: '<|im_start|>user\n',
    tail: '<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n',
    special: '<|im_end|><|im_start|>system\n<think><tool_call>',
  },
] as const;

describe.each(models)('the template of $name', ({ name, files, stop, rendered, head, tail, special }) => {
  let path: string;
  let tokenizer: Tokenizer;
  let library: (text: string) => Promise<number[]>;
  /** Document and query of a conversation that ends with its question. */
  const both = async (messages: readonly ChatMessage[]): Promise<[number[], number[]]> => {
    const before = messages.slice(0, -1);
    const document: number[] = [];
    for await (const run of tokenizer.conversation?.streamDocument(before) ?? []) document.push(...run);
    const roles = before.map(({ role }) => role);
    return [
      document,
      (await tokenizer.conversation?.encodeQuery(roles, messages.at(-1)?.content ?? '')) ?? [],
    ];
  };
  beforeAll(async () => {
    path = await published(name, files);
    tokenizer = await loadTokenizer(path);
    const encoder = Encoder.fromFile(join(path, 'tokenizer.json'));
    library = async (text) => (await encoder.encode(text, null, { addSpecialTokens: false })).getIds();
  }, 60_000);
  afterAll(() => tokenizer.close());

  test('renders a conversation', async () => {
    const chat = (await readChatTemplate(path)) as ChatTemplate;
    expect(await renderChat(chat, conversation)).toBe(rendered);
  });

  test('is taken apart around the document and the question', async () => {
    const document = [...(await tokenizer.encodeDocument('It rained on Monday.'))];
    const query = await tokenizer.encodeQuery('When did it rain?');
    expect(document).toEqual(await library(`${head}It rained on Monday.\n\n`));
    expect(query).toEqual(await library(`When did it rain?${tail}`));
    expect([...document, ...query]).toEqual(
      await library(`${head}It rained on Monday.\n\nWhen did it rain?${tail}`),
    );
  });

  test('gives with the document and the question the ids of the whole prompt', async () => {
    // Each of these joins something across a border of the pieces.
    for (const document of [
      '\n\nIt rained.\n',
      ' It rained',
      'It rained!',
      '1',
      '\u0301',
      '<|eot_id|'.slice(0, -1),
    ]) {
      const ids = [...(await tokenizer.encodeDocument(document)), ...(await tokenizer.encodeQuery('When'))];
      expect(ids).toEqual(await library(`${head}${document}\n\nWhen${tail}`));
    }
  });

  test('marks the turns of a conversation before its question', async () => {
    const [document, query] = await both(conversation);
    expect([...document, ...query]).toEqual(await library(rendered));
    const until = rendered.indexOf('Noted.') + 'Noted.'.length;
    expect([...document]).toEqual(await library(rendered.slice(0, until)));
  });

  test('is the only text whose special tokens count', async () => {
    const count = (ids: Iterable<number>) =>
      [...ids].filter((id) => id >= 151643 || (name === 'llama3_1' && id >= 128000)).length;
    expect(count(await library(special))).toBeGreaterThan(2);
    expect(count(await tokenizer.encodeDocument(special))).toBe(count(await library(head)));
    expect(count(await tokenizer.encodeQuery(special))).toBe(count(await library(tail)));
    const [document] = await both([{ role: 'user', content: special }, ...conversation.slice(3)]);
    expect(count(document)).toBe(count(await library(head)));
  });

  test('and generation_config.json or config.json say what ends an answer', async () => {
    expect(tokenizer.stop).toEqual(stop);
    const answer = await library('Blue .');
    expect(await tokenizer.decodeAnswer([...answer, stop[0], ...answer])).toBe('Blue .');
  });

  test('is part of the digest, and the directory names the model', async () => {
    expect(await tokenizerDigest(path)).toBe(tokenizer.digest);
    expect(await modelName(path)).toBe(name);
    await writeFile(join(path, 'chat_template.jinja'), 'other');
    expect(await tokenizerDigest(path)).not.toBe(tokenizer.digest);
    await rm(join(path, 'chat_template.jinja'));
  });
});

describe('chat templates', () => {
  const inFiles = (name: string, files: Record<string, unknown>) => modelDir(name, {}, files);

  test('are found where Hugging Face directories have them', async () => {
    const path = await inFiles('places', {
      'tokenizer_config.json': {
        bos_token: { content: '<s>', lstrip: false },
        eos_token: '</s>',
        chat_template: [
          { name: 'tool_use', template: 'tools' },
          { name: 'default', template: 'in the config' },
        ],
      },
    });
    expect(await readChatTemplate(path)).toMatchObject({
      template: 'in the config',
      bos: '<s>',
      eos: '</s>',
    });
    await writeFile(join(path, 'chat_template.json'), '{"chat_template": "in its own JSON"}');
    expect(await readChatTemplate(path)).toMatchObject({ template: 'in its own JSON', bos: '<s>' });
    await writeFile(join(path, 'chat_template.jinja'), 'in its own file');
    expect(await readChatTemplate(path)).toMatchObject({ template: 'in its own file', bos: '<s>' });
  });

  test('that are missing or malformed are refused by file', async () => {
    const none = await inFiles('none', { 'tokenizer_config.json': {} });
    await expect(loadTokenizer(none)).rejects.toThrow(
      /none\/longhaul.json cannot be read and .* no chat template/,
    );
    const broken = await inFiles('broken', { 'tokenizer_config.json': '{' });
    await expect(loadTokenizer(broken)).rejects.toThrow(/tokenizer_config.json is not JSON/);
    const odd = await inFiles('odd', { 'tokenizer_config.json': { chat_template: 7 } });
    await expect(loadTokenizer(odd)).rejects.toThrow(/tokenizer_config.json is refused \(chat_template/);
    const unnamed = await inFiles('unnamed', {
      'tokenizer_config.json': { chat_template: [{ name: 'rag', template: '' }] },
    });
    await expect(loadTokenizer(unnamed)).rejects.toThrow(
      /no chat template with the name "default" \("rag"\)/,
    );
  });

  const chat = (template: string): ChatTemplate => ({ path: 'a model', template, bos: '', eos: '' });
  test.each([
    ['leaves contents out', '{{ messages[0].role }}'],
    ['repeats them', '{% for m in messages + messages %}{{ m.content }}{% endfor %}'],
    ['changes them', '{{ messages[0].content | upper }}'],
    ['turns them around', '{% for m in messages[::-1] %}{{ m.content }}{% endfor %}'],
  ])('that %s are refused', async (_, template) => {
    const turns = [
      { role: 'system', contents: 1 },
      { role: 'user', contents: 1 },
    ] as const;
    await expect(chatPieces(chat(template), turns)).rejects.toMatchObject({
      code: 'CHAT_TEMPLATE',
      message: expect.stringContaining('a model does not give each content of (system, user)') as string,
    });
  });
});

test('the date of a prompt is the same every day', async () => {
  const template = '{{ strftime_now("%d %b %Y") }}';
  expect(await renderTemplate('a model', { template, variables: {} })).toBe('26 Jul 2024');
});

describe('hostile templates', () => {
  const render = (template: string, variables = {}) =>
    renderTemplate('a model', { template, variables }, { milliseconds: 5000, outputBytes: 1 << 20 });
  const refused = (reason: RegExp) => ({
    code: 'CHAT_TEMPLATE',
    message: expect.stringMatching(reason) as string,
  });

  test.each([
    [
      'loops without end',
      '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}',
      /runs for more than 5000 ms/,
    ],
    [
      'asks for a huge list',
      '{% for a in range(1000000000) %}{% endfor %}',
      /more than (5000 ms|64 MB)|fails/,
    ],
    [
      'doubles a text without end',
      '{% set ns = namespace(t="xxxxxxxx") %}{% for a in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}',
      /fails|MB|more than/,
    ],
    [
      'fills the memory',
      '{% set ns = namespace(l=[]) %}{% for a in range(10000000) %}{% set ns.l = ns.l + [ns.l] %}{% endfor %}',
      /MB|more than/,
    ],
    [
      'writes without end',
      '{% set ns = namespace(t="xxxxxxxx") %}{% for a in range(18) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}',
      /writes more than 1048576 bytes/,
    ],
    [
      'is nested very deep',
      `${'{% if true %}'.repeat(20_000)}x${'{% endif %}'.repeat(20_000)}`,
      /fails \(.*stack/i,
    ],
    ['calls itself', '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}', /fails \(/],
    ['is no template', '{% if', /fails/],
    ['raises an error', '{{ raise_exception("roles must alternate") }}', /fails \(roles must alternate\)/],
  ])(
    'one that %s is refused',
    async (_, template, reason) => {
      await expect(render(template)).rejects.toMatchObject(refused(reason));
    },
    20_000,
  );

  test('one that reaches for what is behind its values gets nothing', async () => {
    const probes = [
      'messages.constructor',
      'messages.__proto__',
      '"".constructor.constructor("return process")()',
      'messages["constructor"]["constructor"]("return process.env")()',
      'namespace.constructor',
      'process.env',
      'require("fs")',
      'globalThis.process',
      '{}.__proto__.polluted',
      '"".__class__.__mro__',
    ];
    for (const probe of probes) {
      const text = await render(`[{{ ${probe} }}]`, { messages: [{ role: 'user', content: 'x' }] }).catch(
        (error: unknown) => (error as { code: string }).code,
      );
      expect(['[]', '[undefined]', 'CHAT_TEMPLATE'], probe).toContain(text);
    }
    await render('{% set ns = namespace() %}{% set ns.__proto__ = {"polluted": true} %}{{ ns.x }}').catch(
      () => '',
    );
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  }, 30_000);
});
