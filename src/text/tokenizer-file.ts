/** `tokenizer.json` of a model directory, checked, and the Rust encoders that are made from it. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Tokenizer as Encoder } from 'tokenizers';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';

const tokenizerFile = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: z.int().nonnegative(), content: z.string().min(1), special: z.boolean() }))
    .default([]),
  normalizer: z.looseObject({ type: z.string() }).nullish(),
  pre_tokenizer: z.unknown().optional(),
  decoder: z.looseObject({ type: z.string() }).nullish(),
  model: z.looseObject({
    type: z.literal('BPE').optional(),
    vocab: z.record(z.string(), z.int().nonnegative()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    unk_token: z.string().nullish(),
    dropout: z.number().nullish(),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    byte_fallback: z.boolean().nullish(),
  }),
});
export type TokenizerFile = z.infer<typeof tokenizerFile>;

/** @throws ConfigError when the file cannot be read. */
export async function readTokenizerFile(path: string): Promise<Buffer> {
  return readFile(path).catch((cause: unknown) => {
    throw unreadable(path, cause);
  });
}

/** Its sha256, chunk by chunk: ten megabytes at once would hold up the event loop. @throws ConfigError like above */
export async function hashTokenizerFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }))
      hash.update(chunk as Buffer);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  return hash.digest('hex');
}

function unreadable(path: string, cause: unknown): ConfigError {
  return new ConfigError(`${path} cannot be read; modelDir must name a directory with a tokenizer.json`, {
    cause,
  });
}

/** @throws ConfigError naming the field that is wrong. */
export function parseTokenizerFile(path: string, bytes: Uint8Array): TokenizerFile {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ConfigError(`${path} is not JSON; fetch it again`, { cause });
  }
  const parsed = tokenizerFile.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigError(
      `${path} is not a BPE tokenizer that longhaul can run (${issue?.path.join('.') || 'top level'}: ${issue?.message})`,
    );
  }
  if (parsed.data.model.dropout) {
    throw new ConfigError(
      `${path} asks for BPE dropout ${parsed.data.model.dropout}, which gives other ids each time; set it to null`,
    );
  }
  // The library takes the prefix off without looking, and takes the process with it where there is none.
  const { continuing_subword_prefix: prefix, merges } = parsed.data.model;
  const bare = prefix ? merges.find((merge) => !partsOf(merge)[1].startsWith(prefix)) : undefined;
  if (bare !== undefined) {
    throw new ConfigError(
      `${path} is not a BPE tokenizer that longhaul can run (model.merges: the second part of ${JSON.stringify(bare)} ` +
        `does not begin with continuing_subword_prefix ${JSON.stringify(prefix)})`,
    );
  }
  return parsed.data;
}

function partsOf(merge: TokenizerFile['model']['merges'][number]): [left: string, right: string] {
  const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : merge;
  return [left, right];
}

/**
 * The pieces of `file` that a text can be turned into: no added tokens, nor their spellings in the
 * BPE vocabulary with the merges that lead there. Some trainers leave them in it, and
 * `ignore_merges` would find them whole.
 */
export function plainText(file: TokenizerFile): { file: TokenizerFile; reserved: Set<number> } {
  const added = new Set(file.added_tokens.map((token) => token.content));
  // Unknown characters become unk_token inside the model, so it has to stay.
  if (typeof file.model.unk_token === 'string') added.delete(file.model.unk_token);
  const reserved = new Set(file.added_tokens.filter((t) => added.has(t.content)).map((t) => t.id));
  let { vocab, merges } = file.model;
  if ([...added].some((token) => token in vocab)) {
    vocab = Object.fromEntries(Object.entries(vocab).filter(([token]) => !added.has(token)));
    merges = merges.filter((merge) => {
      const [left, right] = partsOf(merge);
      return ![left, right, left + right].some((token) => added.has(token));
    });
  }
  return {
    file: { ...file, added_tokens: [], post_processor: null, model: { ...file.model, vocab, merges } },
    reserved,
  };
}

/** @throws ConfigError with the library's reason. */
export function buildEncoder(path: string, file: TokenizerFile): Encoder {
  try {
    return Encoder.fromString(JSON.stringify({ ...file, truncation: null, padding: null }));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`${path} is refused by the tokenizers library: ${reason}`, { cause });
  }
}
