import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer as Encoder } from 'tokenizers';
import { parseTokenizerFile, type TokenizerFile } from '../../src/text/tokenizer-file.js';

const root = fileURLToPath(new URL('../../.longhaul/test-data/tokenizers', import.meta.url));

export const realTokenizers = ['llama3_1', 'qwen3'] as const;
export type RealTokenizer = (typeof realTokenizers)[number];

/** The folder with the tokenizer.json and tokenizer_config.json of a published model. */
export function realTokenizer(name: RealTokenizer): string {
  const folder = join(root, `${name}-3.7.2`);
  if (!existsSync(folder)) throw new Error(`${folder} is missing; run: make test-data`);
  return folder;
}

export function realTokenizerFile(name: RealTokenizer): TokenizerFile {
  const path = join(realTokenizer(name), 'tokenizer.json');
  return parseTokenizerFile(path, readFileSync(path));
}

/** What the library makes of a whole text in one call, with no special tokens. */
export function reference(file: TokenizerFile): (text: string) => Promise<number[]> {
  const encoder = Encoder.fromString(JSON.stringify({ ...file, added_tokens: [], post_processor: null }));
  return async (text) => (await encoder.encode(text, null, { addSpecialTokens: false })).getIds();
}
