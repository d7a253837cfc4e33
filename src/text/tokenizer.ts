/**
 * The tokenizer of a model directory: `tokenizer.json`, run by threads with the official Rust
 * library, and the model's prompt. Special tokens become their ids in the prompt's own text only; a
 * document that contains `<|eos|>` is text about `<|eos|>`.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { ConfigError } from '../platform/errors.js';
import { AnswerDecoder, type TokenBytes } from './byte-level.js';
import { chatPieces, type ChatMessage, type ChatRole, type ChatTemplate } from './chat-template.js';
import { EncoderPool } from './encoder-pool.js';
import type { Frame } from './frames.js';
import { concat } from './concat.js';
import { promptDigest, readModelPrompt, type ModelPrompt } from './model-prompt.js';
import { hashTokenizerFile } from './tokenizer-file.js';

type Pieces = string | Iterable<string> | AsyncIterable<string>;

/**
 * A conversation that ends with a user's question: the messages before it are the document, with
 * their turns as the chat template marks them. Document and query together are the ids of the whole.
 */
export interface Conversation {
  /** @throws TemplateError when the template does not take these roles; TextError like `streamDocument` */
  streamDocument(messages: readonly ChatMessage[], signal?: AbortSignal): AsyncGenerator<Uint32Array>;
  /** `roles`: of the messages before the question. @throws TemplateError */
  encodeQuery(roles: readonly ChatRole[], question: string): Promise<number[]>;
}

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
  /** The prompt's ids before and after a document, as they are when no text of the document touches them. */
  documentFrame(): Promise<{ before: Uint32Array; after: Uint32Array }>;
  /** What goes into the anchor and after the document. */
  encodeQuery(question: string): Promise<number[]>;
  /** Messages with their roles; undefined when the model has no chat template, or a `longhaul.json`. */
  readonly conversation: Conversation | undefined;
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
  const frame = (text: string) => pool.withThread((thread) => thread.call('frame', { text }));
  const beforeDocument = await frame(prompt.before_document);
  const beforeQuestion = await frame(prompt.before_question);
  const afterQuestion = await frame(prompt.after_question);
  const { sha256, bytes } = await pool.withThread(async (thread) => ({
    sha256: await thread.call('load', {}),
    bytes: (await thread.call('bytes', {})) ?? undefined,
  }));
  const stop = await stopIds(modelDir, path, prompt, pool);

  /** Frames and contents: what stands between special tokens is one run. */
  async function* encode(parts: Iterable<Frame | Pieces>, signal?: AbortSignal): AsyncGenerator<Uint32Array> {
    signal?.throwIfAborted();
    let run: Pieces[] = [];
    for (const part of parts) {
      if (!isFrame(part)) run.push(part);
      else {
        run.push(part.head);
        if (part.ids.length === 0) continue;
        if (run.some((text) => text !== '')) yield* pool.encode(joined(run), signal);
        yield part.ids.slice();
        run = [part.tail];
      }
    }
    if (run.some((text) => text !== '')) yield* pool.encode(joined(run), signal);
  }
  const streamDocument = (pieces: Pieces, signal?: AbortSignal) =>
    encode([beforeDocument, pieces, prompt.after_document], signal);
  const encodeDocument = (text: string, signal?: AbortSignal) => whole(streamDocument(text, signal));
  const documentFrame = async () => ({
    before: await whole(encode([beforeDocument])),
    after: await whole(encode([prompt.after_document])),
  });
  const encodeQuery = async (question: string) => [
    ...(await whole(encode([beforeQuestion, question, afterQuestion]))),
  ];
  const frames = new Map<string, Promise<Frame[]>>();
  /** What stands around the contents of these roles. A template is asked once for each order of roles. */
  const framesOf = (chat: ChatTemplate, before: readonly ChatRole[]): Promise<Frame[]> => {
    const key = before.join();
    let found = frames.get(key);
    if (found === undefined) {
      const turns = [...before, 'user' as const].map((role) => ({ role, contents: 1 }));
      found = chatPieces(chat, turns).then((pieces) => Promise.all(pieces.map(frame)));
      frames.set(key, found);
    }
    return found;
  };
  const conversationBy = (chat: ChatTemplate): Conversation => ({
    async *streamDocument(messages, signal) {
      const around = await framesOf(
        chat,
        messages.map(({ role }) => role),
      );
      yield* encode(
        messages.flatMap(({ content }, at) => [around[at] ?? '', content]),
        signal,
      );
    },
    async encodeQuery(roles, question) {
      const [asking, end] = (await framesOf(chat, roles)).slice(-2);
      return [...(await whole(encode([asking ?? '', question, end ?? ''])))];
    },
  });

  return {
    digest: combined(sha256, promptSha256),
    prompt,
    stop,
    streamDocument,
    encodeDocument,
    documentFrame,
    encodeQuery,
    conversation: prompt.chat && conversationBy(prompt.chat),
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
  const sha256 = await hashTokenizerFile(join(modelDir, 'tokenizer.json'));
  return combined(sha256, await promptDigest(modelDir));
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

function isFrame(part: Frame | Pieces): part is Frame {
  return typeof part === 'object' && 'ids' in part;
}

async function* joined(texts: readonly Pieces[]): AsyncGenerator<string> {
  for (const text of texts) {
    if (typeof text === 'string') yield text;
    else yield* text;
  }
}

async function whole(runs: AsyncIterable<Uint32Array>): Promise<Uint32Array> {
  const all: Uint32Array[] = [];
  for await (const run of runs) all.push(run);
  return concat(all);
}
