/** Text of a prompt template taken apart: here, and only here, special tokens become their ids. */
import type { Tokenizer as Encoder } from 'tokenizers';
import { buildEncoder, type TokenizerFile } from './tokenizer-file.js';
import { idsOf } from './words.js';

/**
 * A template's text from its first special token to its last as ids, and the plain text on either
 * side, which belongs to one run with the document or question beside it. Without special tokens
 * all is `head`.
 */
export interface Frame {
  head: string;
  ids: Uint32Array;
  tail: string;
}

/** `plain` gives the ids of text without special tokens. */
export function framer(
  path: string,
  file: TokenizerFile,
  plain: (text: string) => Promise<Iterable<number>>,
): (text: string) => Promise<Frame> {
  // Tokens that take white space with them, or match in normalised text, are the library's to find.
  const unusual = file.added_tokens.some(
    (token) => token.lstrip || token.rstrip || token.single_word || (token.normalized && file.normalizer),
  );
  if (unusual) {
    let encoder: Encoder | undefined;
    return async (text) => {
      encoder ??= buildEncoder(path, file);
      return { head: '', ids: Uint32Array.from(await idsOf(encoder, text)), tail: '' };
    };
  }
  const special = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
  const contents = [...special.keys()].sort((a, b) => b.length - a.length);
  // The leftmost, and of those the longest. Without tokens a pattern that nothing matches.
  const pattern = new RegExp(contents.length === 0 ? '(?!)' : `(${contents.map(escape).join('|')})`, 'u');
  return async (text) => {
    // Odd places hold the special tokens.
    const [head = '', ...rest] = text.split(pattern);
    const tail = rest.pop() ?? '';
    const ids: number[] = [];
    for (const piece of rest)
      ids.push(...(special.has(piece) ? [special.get(piece) ?? 0] : await plain(piece)));
    return { head, ids: Uint32Array.from(ids), tail };
  };
}

function escape(text: string): string {
  return text.replace(/[$()*+./?[\\\]^{|}-]/g, '\\$&');
}
