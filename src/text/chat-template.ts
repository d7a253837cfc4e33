/**
 * The chat template of a Hugging Face directory, and what of it stands around the contents of a
 * conversation. A template is rendered with marks for contents and taken apart at them, so that a
 * document never passes through it: its text cannot steer the template, its ids depend on nothing
 * that comes after it, and a template is rendered once for all documents.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';
import { renderTemplate, TemplateError } from './render-template.js';

export type ChatRole = 'system' | 'user' | 'assistant';
export interface ChatMessage {
  role: ChatRole;
  content: string;
}

export interface ChatTemplate {
  /** The file it stands in. */
  path: string;
  template: string;
  bos: string;
  eos: string;
}

const token = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .nullish()
  .transform((value) => (typeof value === 'string' ? value : (value?.content ?? '')));
const template = z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]);
const tokenizerConfig = z.looseObject({
  chat_template: template.nullish(),
  bos_token: token,
  eos_token: token,
});
const templateFile = z.looseObject({ chat_template: template });
const TEMPLATE_FILE = 'chat_template.jinja';
const TEMPLATE_JSON = 'chat_template.json';
const TOKENIZER_CONFIG = 'tokenizer_config.json';

/** Undefined when the directory has none. @throws ConfigError naming the file that is malformed. */
export async function readChatTemplate(modelDir: string): Promise<ChatTemplate | undefined> {
  const at = (name: string) => join(modelDir, name);
  const config = await readJson(at(TOKENIZER_CONFIG), tokenizerConfig);
  const marks = { bos: config?.bos_token ?? '', eos: config?.eos_token ?? '' };
  const text = await readIfThere(at(TEMPLATE_FILE));
  if (text !== undefined) return { path: at(TEMPLATE_FILE), template: text, ...marks };
  const json = await readJson(at(TEMPLATE_JSON), templateFile);
  if (json !== undefined)
    return { path: at(TEMPLATE_JSON), template: chosen(at(TEMPLATE_JSON), json.chat_template), ...marks };
  const own = config?.chat_template ?? undefined;
  return own === undefined
    ? undefined
    : { path: at(TOKENIZER_CONFIG), template: chosen(at(TOKENIZER_CONFIG), own), ...marks };
}

function chosen(path: string, found: z.infer<typeof template>): string {
  if (typeof found === 'string') return found;
  const named = found.find(({ name }) => name === 'default');
  if (named !== undefined) return named.template;
  const names = found.map(({ name }) => JSON.stringify(name)).join(', ');
  throw new ConfigError(
    `${path} has no chat template with the name "default" (${names}); write a longhaul.json beside it`,
  );
}

/** As `apply_chat_template` of transformers does it, up to where the answer begins. @throws TemplateError */
export function renderChat(chat: ChatTemplate, messages: readonly ChatMessage[]): Promise<string> {
  return renderTemplate(chat.path, {
    template: chat.template,
    variables: {
      messages,
      add_generation_prompt: true,
      bos_token: chat.bos,
      eos_token: chat.eos,
      // An answer has few tokens: none of them for thoughts. Templates that do not know it ignore it.
      enable_thinking: false,
    },
  });
}

/**
 * What stands before, between and after the contents of these roles: one text more than contents.
 * Several contents of one message are separated by an empty line.
 * @throws TemplateError when the template leaves contents out, repeats, changes or reorders them.
 */
export async function chatPieces(
  chat: ChatTemplate,
  turns: readonly { role: ChatRole; contents: number }[],
): Promise<string[]> {
  let count = 0;
  const mark = (index: number) => `longhaul-content-${index}-end`;
  const messages = turns.map(({ role, contents }) => ({
    role,
    content: Array.from({ length: contents }, () => mark(count++)).join('\n\n'),
  }));
  const rendered = await renderChat(chat, messages);
  const pieces: string[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const found = rendered.indexOf(mark(index), at);
    if (found === -1 || rendered.indexOf(mark(index)) !== rendered.lastIndexOf(mark(index))) {
      const roles = turns.map(({ role }) => role).join(', ');
      throw new TemplateError(
        `the chat template of ${chat.path} does not give each content of (${roles}) once and unchanged; write a longhaul.json beside it`,
      );
    }
    pieces.push(rendered.slice(at, found));
    at = found + mark(index).length;
  }
  return [...pieces, rendered.slice(at)];
}

const eosIds = z.looseObject({
  eos_token_id: z
    .union([
      z
        .int()
        .nonnegative()
        .transform((id) => [id]),
      z.array(z.int().nonnegative()),
    ])
    .nullish(),
});

/**
 * Ids that end an answer, by generation_config.json or else config.json.
 * @throws ConfigError naming the file that is malformed.
 */
export async function readEosIds(modelDir: string): Promise<number[]> {
  for (const name of ['generation_config.json', 'config.json']) {
    const found = await readJson(join(modelDir, name), eosIds);
    if (found?.eos_token_id) return found.eos_token_id;
  }
  return [];
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConfigError(`${path} cannot be read; modelDir must name a model's directory`, { cause });
  }
}

async function readJson<T extends z.ZodType>(path: string, schema: T): Promise<z.infer<T> | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${path} is not JSON; fetch it again`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new ConfigError(
    `${path} is refused (${issue?.path.join('.') || 'top level'}: ${issue?.message}); correct it or fetch it again`,
  );
}
