/**
 * Ids of pre-tokens, remembered. BPE works on one pre-token at a time, and a document has few that
 * are new; those go to the tokenizers library, all of a piece in one call.
 */
import type { Tokenizer as Encoder } from 'tokenizers';
import { LonghaulError } from '../platform/errors.js';
import { encodeLongWord, WINDOW } from './long-words.js';

/** Longer pre-tokens are not remembered: they hardly come again. */
const REMEMBERED_LENGTH = 64;
/** About 20 MB with their ids; all are forgotten when it is full. */
const REMEMBERED = 200_000;
/** As a part of a window: longer pre-tokens are not joined with others. */
const LONG = 1 / 16;
/** Stands between pre-tokens in a call of the library; one that contains it is encoded alone. */
export const SEPARATOR = '\0';

interface Word {
  ids: ArrayLike<number>;
}

export interface WordEncoders {
  /** Takes pre-tokens with SEPARATOR between them. */
  joined: Encoder;
  /** Takes its whole text as one pre-token. */
  single: () => Encoder;
  /** The id of SEPARATOR. */
  separator: number;
  /** [ids + 1] where the bytes of each token start, as in TokenBytes. */
  starts: Uint32Array;
  /** Ids that text must not become. */
  reserved: ReadonlySet<number>;
}

export class Words {
  private known = new Map<string, Word>();

  constructor(
    private readonly encoders: WordEncoders,
    /** UTF-16 units of a window on a long pre-token. */
    private readonly window = WINDOW,
  ) {}

  /** Ids of pre-tokens, in order. */
  async encode(words: readonly string[], signal: AbortSignal): Promise<Uint32Array> {
    const found: Word[] = [];
    const fresh = new Map<string, Word>();
    const alone = new Map<string, Word>();
    for (const word of words) {
      let entry = this.known.get(word) ?? fresh.get(word) ?? alone.get(word);
      if (entry === undefined) {
        entry = { ids: [] };
        (word.length > this.window * LONG || word.includes(SEPARATOR) ? alone : fresh).set(word, entry);
      }
      found.push(entry);
    }
    if (fresh.size > 0) await this.encodeJoined(fresh);
    for (const [word, entry] of alone) entry.ids = await this.encodeAlone(word, signal);
    return join(found);
  }

  private async encodeJoined(fresh: ReadonlyMap<string, Word>): Promise<void> {
    const { joined, separator, reserved } = this.encoders;
    const text = [...fresh.keys()].join(SEPARATOR);
    const ids = await idsOf(joined, text);
    refuseReserved(ids, reserved);
    if (this.known.size + fresh.size > REMEMBERED) this.known.clear();
    let start = 0;
    for (const [word, entry] of fresh) {
      const end = ids.indexOf(separator, start);
      entry.ids = ids.slice(start, end === -1 ? ids.length : end);
      start = end === -1 ? ids.length : end + 1;
      // A copy: a slice would keep the whole piece of the document in memory.
      if (word.length <= REMEMBERED_LENGTH) this.known.set(Buffer.from(word).toString(), entry);
    }
  }

  private async encodeAlone(word: string, signal: AbortSignal): Promise<Uint32Array> {
    const encoder = this.encoders.single();
    const ids = await encodeLongWord(
      word,
      this.encoders.starts,
      (part) => {
        signal.throwIfAborted();
        return idsOf(encoder, part);
      },
      this.window,
    );
    refuseReserved(ids, this.encoders.reserved);
    return ids;
  }
}

/** @throws LonghaulError SPECIAL_TOKEN_IN_TEXT */
export function refuseReserved(ids: ArrayLike<number>, reserved: ReadonlySet<number>): void {
  for (let i = 0; i < ids.length; i++) {
    if (reserved.has(ids[i] ?? 0)) {
      throw new LonghaulError(
        'SPECIAL_TOKEN_IN_TEXT',
        `the tokenizer turned plain text into the special token ${ids[i]}; it cannot be used safely`,
      );
    }
  }
}

/** The library's ids of a text, without what a post-processor would put around it. */
export async function idsOf(encoder: Encoder, text: string): Promise<number[]> {
  return (await encoder.encode(text, null, { addSpecialTokens: false })).getIds();
}

function join(words: readonly Word[]): Uint32Array {
  const all = new Uint32Array(words.reduce((sum, { ids }) => sum + ids.length, 0));
  let at = 0;
  for (const { ids } of words) {
    // A loop, since set() costs more than it saves on two or three ids.
    for (let i = 0; i < ids.length; i++) all[at++] = ids[i] ?? 0;
  }
  return all;
}
