/**
 * Cuts a long text into parts whose token ids, joined, are those of the whole text. The Rust
 * encoder keeps about 170 bytes per token while it works, so a book is encoded part by part.
 */

/** The pre-tokenizers of GPT-4 style vocabularies: Llama 3, and Qwen2 with the demo model. */
const CUTTABLE = new Set(
  ['\\p{N}{1,3}', '\\p{N}'].map(
    (numbers) =>
      `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
  ),
);

/**
 * Whether a pre-tokenizer with this pattern always starts a new piece at a space that follows a
 * non-space. In these patterns no alternative goes on to a space after anything else, and the one
 * lookahead stands behind white space; so such a cut changes no piece on either side. Other
 * tokenizers (SentencePiece's prepend a mark to each text) are encoded whole.
 */
export function isCuttable(pattern: string): boolean {
  return CUTTABLE.has(pattern);
}

/**
 * The text of the pieces, joined and cut anew: parts of at least `size` UTF-16 units (but the last), cut before a
 * space that follows a non-space. At most a part and a piece are held, unless the text has no such space.
 */
export async function* cutBeforeSpaces(
  pieces: AsyncIterable<string> | Iterable<string>,
  size: number,
): AsyncGenerator<string> {
  let held = '';
  for await (const piece of pieces) {
    // Where no cut was found it is not looked for again.
    let at = Math.max(size, held.length);
    held += piece;
    let start = 0;
    while (at < held.length) {
      const space = held.indexOf(' ', at);
      if (space === -1) break;
      if (/\S/u.test(held.charAt(space - 1))) {
        yield held.slice(start, space);
        start = space;
        at = space + size;
      } else {
        at = space + 1;
      }
    }
    held = held.slice(start);
  }
  yield held;
}
