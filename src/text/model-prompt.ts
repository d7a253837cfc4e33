/**
 * How a model's documents and questions become token sequences:
 *
 *   document ids = ids(before_document) + plain(document) + plain(after_document)
 *   query ids    = ids(before_question) + plain(question) + ids(after_question)
 *
 * by `longhaul.json` where the directory has one, else by its chat template. Special tokens of the
 * template become their ids; those spelt in a document or question never do. A document's ids are
 * the same whatever is asked about it, so it is stored and read once.
 *
 * Plain text of the template is encoded in one run with what it stands beside, so the two sequences
 * together are the ids of the whole prompt. One border is not special: the one before a question,
 * after the empty line that ends a document. There a new pre-token begins unless the question begins
 * with white space.
 */
import { createHash } from 'node:crypto';
import { basename, join, resolve } from 'node:path';
import { ConfigError } from '../platform/errors.js';
import { chatPieces, readChatTemplate, readEosIds, type ChatTemplate } from './chat-template.js';
import { hasPromptFile, PROMPT_FILE, readPrompt, type Prompt } from './prompt.js';

/** l_a and l_p of the APB paper, as fractions of a block. */
const PAPER_DEFAULTS = { anchor_per_block: 0.25, passing_per_block: 0.125 };

export interface ModelPrompt {
  before_document: string;
  after_document: string;
  before_question: string;
  after_question: string;
  /** Tokens that end an answer, by their spelling. */
  stopTokens: readonly string[];
  /** And by their id. */
  stopIds: readonly number[];
  defaults: Prompt['defaults'];
  /** Answers begin with a space that is no part of them. */
  spaceFirst: boolean;
  /** Undefined with a `longhaul.json`. */
  chat: ChatTemplate | undefined;
}

/** @throws ConfigError naming the file that is missing or malformed; TemplateError */
export async function readModelPrompt(modelDir: string): Promise<ModelPrompt> {
  const source = await readSource(modelDir);
  if ('prompt' in source) {
    const { document_prefix, query_prefix, query_suffix, stop, defaults } = source.prompt;
    return {
      before_document: document_prefix,
      after_document: '',
      before_question: query_prefix,
      after_question: query_suffix,
      stopTokens: stop,
      stopIds: [],
      defaults,
      spaceFirst: true,
      chat: undefined,
    };
  }
  const { chat, eosIds } = source;
  const [before_document = '', after_document = '', after_question = ''] = await chatPieces(chat, [
    { role: 'user', contents: 2 },
  ]);
  return {
    before_document,
    after_document,
    before_question: '',
    after_question,
    stopTokens: chat.eos === '' ? [] : [chat.eos],
    stopIds: eosIds,
    defaults: PAPER_DEFAULTS,
    spaceFirst: false,
    chat,
  };
}

/** sha256 of what decides the prompt, without rendering a template. */
export async function promptDigest(modelDir: string): Promise<string> {
  const source = await readSource(modelDir);
  if ('prompt' in source) return sha256(source.bytes);
  const { template, bos, eos } = source.chat;
  return sha256(JSON.stringify({ template, bos, eos, eosIds: source.eosIds }));
}

/** Whether messages keep their roles: the directory has a chat template and no `longhaul.json`. */
export async function takesRoles(modelDir: string): Promise<boolean> {
  return 'chat' in (await readSource(modelDir));
}

/** The name that an OpenAI line's `model` must give. @throws ConfigError like `readModelPrompt`. */
export async function modelName(modelDir: string): Promise<string> {
  const source = await readSource(modelDir);
  return ('prompt' in source ? source.prompt.name : undefined) ?? basename(resolve(modelDir));
}

type Source = { prompt: Prompt; bytes: Buffer } | { chat: ChatTemplate; eosIds: number[] };

async function readSource(modelDir: string): Promise<Source> {
  if (await hasPromptFile(modelDir)) return readPrompt(modelDir);
  const chat = await readChatTemplate(modelDir);
  if (chat === undefined) {
    throw new ConfigError(
      `${join(modelDir, PROMPT_FILE)} cannot be read and ${modelDir} has no chat template either; a model directory needs one of them to say how documents and questions are put into tokens`,
    );
  }
  return { chat, eosIds: await readEosIds(modelDir) };
}

function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
