/** Text of a prompt template to ids: here, and only here, special tokens become their ids. */
import type { Tokenizer as Encoder } from 'tokenizers';
import { buildEncoder, type TokenizerFile } from './tokenizer-file.js';
import { idsOf } from './words.js';

/** `plain` gives the ids of text without special tokens. */
export function templateIds(
  path: string,
  file: TokenizerFile,
  plain: (text: string) => Promise<Iterable<number>>,
): (text: string) => Promise<number[]> {
  // Tokens that take white space with them, or match in normalised text, are the library's to find.
  const special = file.added_tokens.some(
    (token) => token.lstrip || token.rstrip || token.single_word || (token.normalized && file.normalizer),
  );
  if (special) {
    let encoder: Encoder | undefined;
    return (text) => idsOf((encoder ??= buildEncoder(path, file)), text);
  }
  const ids = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
  const contents = [...ids.keys()].sort((a, b) => b.length - a.length);
  // The leftmost, and of those the longest. Without tokens a pattern that nothing matches.
  const pattern = new RegExp(contents.length === 0 ? '(?!)' : `(${contents.map(escape).join('|')})`, 'u');
  return async (text) => {
    const all: number[] = [];
    for (const piece of text.split(pattern)) {
      const id = ids.get(piece);
      if (id !== undefined) all.push(id);
      else if (piece !== '') all.push(...(await plain(piece)));
    }
    return all;
  };
}

function escape(text: string): string {
  return text.replace(/[$()*+./?[\\\]^{|}-]/g, '\\$&');
}
