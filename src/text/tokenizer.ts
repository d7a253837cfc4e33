/**
 * The tokenizer of a model directory: `tokenizer.json`, run by threads with the official Rust
 * library, and the model's prompt. Special tokens become their ids in the prompt's own text only; a
 * document that contains `<|eos|>` is text about `<|eos|>`.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ConfigError } from '../platform/errors.js';
import { AnswerDecoder, type TokenBytes } from './byte-level.js';
import { chatPieces, type ChatMessage } from './chat-template.js';
import { EncoderPool } from './encoder-pool.js';
import { concat } from './long-words.js';
import { promptDigest, readModelPrompt, type ModelPrompt } from './model-prompt.js';
import { readTokenizerFile } from './tokenizer-file.js';

type Pieces = string | Iterable<string> | AsyncIterable<string>;

export interface Tokenizer {
  /** sha256 of tokenizer.json and the prompt: equal digests give equal ids. */
  readonly digest: string;
  readonly prompt: Pick<ModelPrompt, 'defaults'>;
  /** Ids that end an answer, to be given to the engine. */
  readonly stop: readonly number[];
  /** Prefix and text; the text never becomes a special token. @throws TextError like `streamDocument` */
  encodeDocument(text: string, signal?: AbortSignal): Promise<Uint32Array>;
  /**
   * The same ids in runs, for text in pieces cut anywhere: neither text nor ids are held whole, but
   * for tokenizers whose pre-tokenizer longhaul does not know.
   * @throws TextError for half a surrogate pair, naming its UTF-16 index.
   */
  streamDocument(pieces: Pieces, signal?: AbortSignal): AsyncGenerator<Uint32Array>;
  /** What goes into the anchor and after the document. */
  encodeQuery(question: string): Promise<number[]>;
  /**
   * A conversation: its last message is the question, those before it are the document, with their
   * turns as the chat template marks them. Without a template their contents are joined by empty lines.
   * @throws TemplateError when the template does not take these roles.
   */
  encodeChat(
    messages: readonly ChatMessage[],
    signal?: AbortSignal,
  ): Promise<{ document: Uint32Array; query: number[] }>;
  /** An answer's text from the ids that the engine produced; the stop token may be among them. */
  decodeAnswer(ids: readonly number[]): Promise<string>;
  /** For text as its tokens come; undefined when the tokenizer is not byte-level. */
  answerDecoder(): AnswerDecoder | undefined;
  /** Ends the threads. Optional: they end by themselves, and keep no process alive. */
  close(): Promise<void>;
}

/** @throws ConfigError when a file of the directory is missing or does not fit. */
export async function loadTokenizer(modelDir: string): Promise<Tokenizer> {
  const path = join(modelDir, 'tokenizer.json');
  const [prompt, promptSha256] = await Promise.all([readModelPrompt(modelDir), promptDigest(modelDir)]);
  const pool = new EncoderPool(path);
  try {
    return await open(modelDir, path, prompt, promptSha256, pool);
  } catch (error) {
    await pool.close();
    throw error;
  }
}

async function open(
  modelDir: string,
  path: string,
  prompt: ModelPrompt,
  promptSha256: string,
  pool: EncoderPool,
): Promise<Tokenizer> {
  const templateIds = (text: string) => pool.withThread((thread) => thread.call('template', { text }));
  const beforeDocument = await templateIds(prompt.before_document);
  const beforeQuestion = await templateIds(prompt.before_question);
  const afterQuestion = await templateIds(prompt.after_question);
  const { sha256, bytes } = await pool.withThread(async (thread) => ({
    sha256: await thread.call('load', {}),
    bytes: (await thread.call('bytes', {})) ?? undefined,
  }));
  const stop = await stopIds(modelDir, path, prompt, pool);

  const plain = async (text: string, signal?: AbortSignal) =>
    concat(await collect(pool.encode(text, signal)));
  async function* streamDocument(pieces: Pieces, signal?: AbortSignal): AsyncGenerator<Uint32Array> {
    signal?.throwIfAborted();
    yield beforeDocument.slice();
    yield* pool.encode(pieces, signal);
  }
  const encodeDocument = async (text: string, signal?: AbortSignal) =>
    concat(await collect(streamDocument(text, signal)));
  const encodeQuery = async (question: string) => [
    ...beforeQuestion,
    ...(await plain(question)),
    ...afterQuestion,
  ];
  const turns = new Map<string, Promise<Uint32Array[]>>();

  return {
    digest: combined(sha256, promptSha256),
    prompt,
    stop,
    streamDocument,
    encodeDocument,
    encodeQuery,
    async encodeChat(messages, signal) {
      const { chat } = prompt;
      const question = messages.at(-1)?.content ?? '';
      if (chat === undefined) {
        const text = messages.slice(0, -1).map(({ content }) => content);
        return {
          document: await encodeDocument(text.join('\n\n'), signal),
          query: await encodeQuery(question),
        };
      }
      // A template is asked once for each order of roles.
      const roles = messages.map(({ role }) => role);
      let around = turns.get(roles.join());
      if (around === undefined) {
        around = chatPieces(
          chat,
          roles.map((role) => ({ role, contents: 1 })),
        ).then((pieces) => Promise.all(pieces.map(templateIds)));
        turns.set(roles.join(), around);
      }
      const template = await around;
      const parts: Uint32Array[] = [];
      for (const [at, { content }] of messages.entries()) {
        parts.push(template[at] ?? new Uint32Array(0), await plain(content, signal));
      }
      const [before = new Uint32Array(0), asked = new Uint32Array(0)] = parts.splice(-2);
      return { document: concat(parts), query: [...before, ...asked, ...(template.at(-1) ?? [])] };
    },
    async decodeAnswer(ids) {
      const end = ids.findIndex((id) => stop.includes(id));
      const text = await decode(pool, bytes, ids.slice(0, end === -1 ? undefined : end));
      return prompt.spaceFirst && text.startsWith(' ') ? text.slice(1) : text;
    },
    answerDecoder: () => (bytes === undefined ? undefined : new AnswerDecoder(bytes)),
    close: () => pool.close(),
  };
}

/** The digest alone, for processes that need no encoder. */
export async function tokenizerDigest(modelDir: string): Promise<string> {
  const bytes = await readTokenizerFile(join(modelDir, 'tokenizer.json'));
  return combined(createHash('sha256').update(bytes).digest('hex'), await promptDigest(modelDir));
}

function combined(tokenizerSha256: string, promptSha256: string): string {
  return createHash('sha256').update(`${tokenizerSha256}\n${promptSha256}\n`).digest('hex');
}

async function stopIds(
  modelDir: string,
  path: string,
  { stopTokens, stopIds: named }: ModelPrompt,
  pool: EncoderPool,
): Promise<number[]> {
  const ids = new Set(named);
  for (const content of stopTokens) {
    const id = await pool.withThread((thread) => thread.call('token', { content }));
    if (id === null) {
      throw new ConfigError(`stop token ${JSON.stringify(content)} of ${modelDir} is not in ${path}`);
    }
    ids.add(id);
  }
  if (ids.size === 0) {
    throw new ConfigError(
      `${modelDir} does not say what ends an answer; give eos_token_id in its generation_config.json`,
    );
  }
  return [...ids];
}

async function decode(pool: EncoderPool, bytes: TokenBytes | undefined, ids: number[]): Promise<string> {
  if (bytes === undefined) return pool.withThread((thread) => thread.call('decode', { ids }));
  const decoder = new AnswerDecoder(bytes);
  return decoder.write(ids) + decoder.end();
}

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}
