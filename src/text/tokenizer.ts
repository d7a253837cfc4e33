/**
 * The tokenizer of a model directory: `tokenizer.json` run by the official Rust library, whose
 * calls work on its own threads. Two instances are held. `full` knows the special tokens and sees
 * only the template of `longhaul.json`. `plain` knows none and sees everything that people wrote, so
 * a document that contains `<|eos|>` is text about `<|eos|>`.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as Encoder } from 'tokenizers';
import { z } from 'zod';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import { cutBeforeSpaces, isCuttable } from './cuts.js';
import { readPrompt, type Prompt } from './prompt.js';

/** UTF-16 units encoded in one call: bounds memory, and how late an abort is noticed. */
const PART_LENGTH = 1 << 20;

const tokenizerFile = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: z.int(), content: z.string(), special: z.boolean() }))
    .default([]),
  normalizer: z.looseObject({ type: z.string() }).nullish(),
  pre_tokenizer: z.unknown(),
  model: z.looseObject({
    type: z.literal('BPE').optional(),
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    unk_token: z.string().nullish(),
  }),
});
type TokenizerFile = z.infer<typeof tokenizerFile>;

export interface Tokenizer {
  /** sha256 of tokenizer.json and longhaul.json: equal digests give equal ids. */
  readonly digest: string;
  readonly prompt: Prompt;
  /** Ids that end an answer, to be given to the engine. */
  readonly stop: readonly number[];
  /** Prefix and text; the text never becomes a special token. */
  encodeDocument(text: string, signal?: AbortSignal): Promise<Uint32Array>;
  /**
   * The same ids in runs, for text that comes in pieces (cut anywhere between characters): where the
   * tokenizer has safe cuts, neither text nor ids are ever held whole.
   */
  streamDocument(pieces: AsyncIterable<string>, signal?: AbortSignal): AsyncGenerator<Uint32Array>;
  /** What goes into the anchor and after the document. */
  encodeQuery(question: string): Promise<number[]>;
  /** An answer's text from the ids that the engine produced; the stop token may be among them. */
  decodeAnswer(ids: readonly number[]): Promise<string>;
}

/** @throws ConfigError when a file of the directory is missing or does not fit. */
export async function loadTokenizer(modelDir: string): Promise<Tokenizer> {
  const path = join(modelDir, 'tokenizer.json');
  const { prompt, bytes: promptBytes } = await readPrompt(modelDir);
  const bytes = await readTokenizerFile(path);
  const file = parseTokenizerFile(path, bytes);
  const { full, plain, reserved } = buildEncoders(path, file);
  const ids = async (part: string) => (await full.encode(part, null, { addSpecialTokens: false })).getIds();
  const [documentPrefix, queryPrefix, querySuffix] = await Promise.all([
    ids(prompt.document_prefix),
    ids(prompt.query_prefix),
    ids(prompt.query_suffix),
  ]);
  const stop = prompt.stop.map((token) => {
    const id = full.tokenToId(token);
    if (id === null) {
      throw new ConfigError(`stop token ${JSON.stringify(token)} of ${modelDir} is not in ${path}`);
    }
    return id;
  });
  const cuttable = hasKnownCuts(file);

  async function* encodePlain(
    pieces: AsyncIterable<string> | Iterable<string>,
    signal?: AbortSignal,
  ): AsyncGenerator<number[]> {
    for await (const part of cuttable ? cutBeforeSpaces(pieces, PART_LENGTH) : joined(pieces)) {
      signal?.throwIfAborted();
      const found = (await plain.encode(part, null, { addSpecialTokens: false })).getIds();
      const leaked = found.find((id) => reserved.has(id));
      if (leaked !== undefined) {
        throw new LonghaulError(
          'SPECIAL_TOKEN_IN_TEXT',
          `${path} turned plain text into the special token ${leaked}; this tokenizer cannot be used safely`,
        );
      }
      yield found;
    }
  }

  async function* streamDocument(
    pieces: AsyncIterable<string> | Iterable<string>,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint32Array> {
    yield Uint32Array.from(documentPrefix);
    for await (const part of encodePlain(pieces, signal)) yield Uint32Array.from(part);
  }

  return {
    digest: digestOf(bytes, promptBytes),
    prompt,
    stop,
    streamDocument,
    async encodeDocument(text, signal) {
      return join32(await collect(streamDocument([text], signal)));
    },
    async encodeQuery(question) {
      return [...queryPrefix, ...(await collect(encodePlain([question]))).flat(), ...querySuffix];
    },
    async decodeAnswer(answerIds) {
      const end = answerIds.findIndex((id) => stop.includes(id));
      const text = await full.decode(answerIds.slice(0, end === -1 ? undefined : end), true);
      return text.startsWith(' ') ? text.slice(1) : text;
    },
  };
}

/** The digest alone, for processes that need no encoder. */
export async function tokenizerDigest(modelDir: string): Promise<string> {
  const { bytes: promptBytes } = await readPrompt(modelDir);
  return digestOf(await readTokenizerFile(join(modelDir, 'tokenizer.json')), promptBytes);
}

function digestOf(tokenizerBytes: Buffer, promptBytes: Buffer): string {
  const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex');
  return sha256(`${sha256(tokenizerBytes)}\n${sha256(promptBytes)}\n`);
}

async function readTokenizerFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new ConfigError(`${path} cannot be read; modelDir must name a directory with a tokenizer.json`, {
      cause,
    });
  }
}

function parseTokenizerFile(path: string, bytes: Buffer): TokenizerFile {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new ConfigError(`${path} is not JSON; fetch it again`, { cause });
  }
  const parsed = tokenizerFile.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigError(
      `${path} is not a BPE tokenizer that longhaul can run (${issue?.path.join('.')}: ${issue?.message})`,
    );
  }
  return parsed.data;
}

/**
 * `plain` loses the added tokens, and their spellings in the BPE vocabulary with the merges that
 * lead there: some trainers leave them in it, and `ignore_merges` would find them whole.
 */
function buildEncoders(path: string, file: TokenizerFile) {
  const base = { ...file, truncation: null, padding: null };
  const added = new Set(file.added_tokens.map((token) => token.content));
  // Unknown characters become unk_token inside the model, so it has to stay.
  if (typeof file.model.unk_token === 'string') added.delete(file.model.unk_token);
  const reserved = new Set(file.added_tokens.filter((t) => added.has(t.content)).map((t) => t.id));
  const vocab = Object.fromEntries(Object.entries(file.model.vocab).filter(([token]) => !added.has(token)));
  const merges = file.model.merges.filter((merge) => {
    const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : merge;
    return ![left, right, left + right].some((token) => added.has(token));
  });
  try {
    return {
      full: Encoder.fromString(JSON.stringify(base)),
      plain: Encoder.fromString(
        JSON.stringify({
          ...base,
          added_tokens: [],
          model: { ...file.model, vocab, merges },
          post_processor: null,
        }),
      ),
      reserved,
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`${path} is refused by the tokenizers library: ${reason}`, { cause });
  }
}

const splitSequence = z.looseObject({
  type: z.literal('Sequence'),
  pretokenizers: z.tuple([
    z.looseObject({ type: z.literal('Split'), pattern: z.strictObject({ Regex: z.string() }) }),
    z.looseObject({
      type: z.literal('ByteLevel'),
      add_prefix_space: z.literal(false),
      use_regex: z.literal(false),
    }),
  ]),
});

function hasKnownCuts(file: TokenizerFile): boolean {
  const split = splitSequence.safeParse(file.pre_tokenizer);
  const normalizer = file.normalizer?.type;
  return (
    split.success &&
    isCuttable(split.data.pretokenizers[0].pattern.Regex) &&
    (normalizer === undefined || normalizer === 'NFC')
  );
}

async function* joined(pieces: AsyncIterable<string> | Iterable<string>): AsyncGenerator<string> {
  yield (await collect(pieces)).join('');
}

async function collect<T>(values: AsyncIterable<T> | Iterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

function join32(parts: readonly Uint32Array[]): Uint32Array {
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
