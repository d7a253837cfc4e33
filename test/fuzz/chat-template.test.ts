import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigError } from '../../src/platform/errors.js';
import { chatPieces, readChatTemplate, readEosIds } from '../../src/text/chat-template.js';
import { renderTemplate } from '../../src/text/render-template.js';
import { damaged, fuzz, graftedJson, TEST_MS } from './support.js';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-fuzz-'));
});
afterAll(() => rm(directory, { recursive: true }));

const templates = [
  "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] | trim }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
  "{%- set ns = namespace(n=0) -%}{%- for m in messages if m.role == 'user' -%}{%- set ns.n = ns.n + 1 -%}[{{ ns.n }}] {{ m.content }}{%- endfor -%}{{ raise_exception('x') if ns.n > 9 }}",
  '{% macro turn(m) %}{{ m.role | upper }}: {{ m.content }}\n{% endmacro %}{% for m in messages[-2:] %}{{ turn(m) }}{% else %}none{% endfor %}',
];
const words = [
  '{{',
  '}}',
  '{%',
  '%}',
  '{#',
  '#}',
  '-',
  'for x in range(1000000000)',
  'endfor',
  'if',
  'endif',
  '{% set x = x ~ x %}',
  '{{ messages.constructor.constructor("return process")() }}',
  '{{ "".__class__ }}',
  '{{ turn(turn) }}',
  '| tojson',
  '* 99999999',
  '[-1:]',
  '((((((((',
  '{{ strftime_now("%Y") }}',
  '{% for a in messages %}{% for b in range(99999) %}',
];
const config = {
  chat_template: templates[0],
  bos_token: { content: '<s>' },
  eos_token: '</s>',
  eos_token_id: [1, 2],
};
const limits = { milliseconds: 1_500, heapMegabytes: 32, outputBytes: 1 << 20 };
const messages = [
  { role: 'user', content: 'A document.' },
  { role: 'user', content: 'A question?' },
];

const typed = async (work: Promise<unknown>): Promise<boolean> => {
  try {
    await work;
    return true;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.message.length).toBeLessThan(100_000);
    return false;
  }
};

test(
  'chat templates and the files they stand in',
  async () => {
    let good = 0;
    const several = fc.array(damaged(templates, words), { minLength: 3, maxLength: 3 });
    const files = fc.array(
      fc.oneof(graftedJson([config]), damaged([JSON.stringify(config)], ['"', '{', '['])),
      {
        minLength: 10,
        maxLength: 10,
      },
    );
    await fuzz('chat templates', fc.tuple(several, files), async ([programs, configs]) => {
      // A process each: side by side, so that more are tried.
      const rendered = programs.map((template) =>
        typed(
          renderTemplate(
            'fuzz',
            {
              template: template.toString(),
              variables: { messages, add_generation_prompt: true, bos_token: '<s>', eos_token: '</s>' },
            },
            limits,
          ),
        ),
      );
      good += (await Promise.all(rendered)).filter(Boolean).length;
      for (const text of configs) {
        await writeFile(join(directory, 'tokenizer_config.json'), text);
        await writeFile(join(directory, 'generation_config.json'), text);
        await typed(readEosIds(directory));
        await typed(readChatTemplate(directory));
      }
      await writeFile(join(directory, 'tokenizer_config.json'), configs[0] ?? '');
      await typed(
        readChatTemplate(directory).then((chat) =>
          chat === undefined || chat.template.length > 10_000
            ? []
            : chatPieces(chat, [{ role: 'user', contents: 2 }]),
        ),
      );
    });
    expect(good).toBeGreaterThan(0);
  },
  TEST_MS,
);
