/**
 * BPE of a pre-token of any length by windows. The library keeps hundreds of bytes per character
 * while it works, so ten megabytes of one letter are not given to it at once.
 *
 * Why the ids are those of the whole: a sequence of tokens is the BPE of its bytes exactly when each
 * two neighbours are the BPE of theirs. (BPE always makes the best merge, the leftmost of equals.
 * Take the first one that would cross a border of the sequence: up to it both neighbours went the
 * way they go alone, so it would cross in the BPE of the two as well.) Neighbours inside a window
 * are such. A window starts where the one before has a token border, and its first token must be
 * the token that starts there in the one before: then all neighbours of the joined sequence stood
 * side by side in one of the windows.
 */
import { concat } from './concat.js';

/** UTF-16 units. */
export const WINDOW = 1 << 16;
/** Bytes at a window's end whose tokens may come from its being cut there. */
const TAIL = 1 << 10;

/**
 * `starts`: [ids + 1] where tokens' bytes start in one table. `encode` gives the ids of a text that
 * is one pre-token. A window must be longer than any token, or `ignore_merges` would apply to it.
 */
export async function encodeLongWord(
  word: string,
  starts: Uint32Array,
  encode: (text: string) => Promise<number[]>,
  window: number,
): Promise<Uint32Array> {
  const done: Uint32Array[] = [];
  let from = 0;
  let to = characterBorder(word, window);
  let ids = await encode(word.slice(from, to));
  while (to < word.length) {
    const kept = keep(word.slice(from, to), ids, starts, Math.min(TAIL, window >> 2));
    const next = from + kept.units;
    const after = characterBorder(word, next + window);
    const following = await encode(word.slice(next, after));
    // The cut was felt further left than TAIL: look at more at once.
    if (kept.tokens === 0 || following[0] !== ids[kept.tokens]) {
      return encodeLongWord(word, starts, encode, window * 2);
    }
    done.push(Uint32Array.from(ids.slice(0, kept.tokens)));
    [from, to, ids] = [next, after, following];
  }
  return concat([...done, Uint32Array.from(ids)]);
}

/** How many of a window's tokens are kept, and their UTF-16 units: up to a character's border before the tail. */
function keep(
  text: string,
  ids: readonly number[],
  starts: Uint32Array,
  tail: number,
): { tokens: number; units: number } {
  const bytes = Buffer.from(text);
  let end = 0;
  let best = { tokens: 0, end: 0 };
  for (let i = 0; i + 1 < ids.length; i++) {
    const id = ids[i] ?? 0;
    end += (starts[id + 1] ?? 0) - (starts[id] ?? 0);
    if (end > bytes.length - tail) break;
    if (((bytes[end] ?? 0) & 0xc0) !== 0x80) best = { tokens: i + 1, end };
  }
  return { tokens: best.tokens, units: bytes.toString('utf8', 0, best.end).length };
}

/** `at`, or one less where that would part a surrogate pair. */
function characterBorder(word: string, at: number): number {
  if (at >= word.length) return word.length;
  const unit = word.charCodeAt(at);
  return unit >= 0xdc00 && unit <= 0xdfff ? at - 1 : at;
}
