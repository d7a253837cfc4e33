/**
 * What the tokenizers library takes a character for. Its Unicode tables are of another version than
 * Node's, so it is asked: by how it splits `!`, the character and a line feed.
 */
import { Tokenizer as Encoder, type PreTokenizer } from 'tokenizers';

export const LETTER = 1;
export const NUMBER = 2;
export const SPACE = 3;
/** CR and LF, which the patterns name beside \s. */
export const NEWLINE = 4;
export const OTHER = 5;

const BLOCK = 256;
const FIRST_SURROGATE = 0xd800;
const AFTER_SURROGATES = 0xe000;

export class CodePoints {
  /** [0x110000] by code point; 0: the library was not asked yet. */
  readonly table = new Uint8Array(0x110000);
  private readonly splitter: PreTokenizer;

  /** `pattern` is one of those in pre-tokens.ts. */
  constructor(pattern: string) {
    this.splitter = splitterOf(pattern);
  }

  /** Fills the block around a code point and returns its class. */
  ask(codePoint: number): number {
    const start = codePoint - (codePoint % BLOCK);
    if (start >= FIRST_SURROGATE && start < AFTER_SURROGATES) {
      this.table.fill(OTHER, start, start + BLOCK);
      return OTHER;
    }
    const probes = Array.from({ length: BLOCK }, (_, i) => `!${String.fromCodePoint(start + i)}\n`);
    const pieces = this.splitter.preTokenizeString(probes.join(''));
    let piece = 0;
    for (let i = 0; i < BLOCK; i++) {
      const own: string[] = [];
      for (let length = 0; length < (probes[i]?.length ?? 0); length += own.at(-1)?.length ?? 0) {
        own.push(pieces[piece++]?.[0] ?? '');
      }
      this.table[start + i] = classOf(start + i, own);
    }
    return this.table[codePoint] ?? OTHER;
  }
}

function classOf(codePoint: number, pieces: readonly string[]): number {
  if (codePoint === 0x0a || codePoint === 0x0d) return NEWLINE;
  if (pieces.length === 1) return OTHER;
  if (pieces.length === 3) return NUMBER;
  return pieces[0] === '!' ? SPACE : LETTER;
}

/** The library's pre-tokenizer for a pattern alone, with no vocabulary around it. */
export function splitterOf(pattern: string): PreTokenizer {
  const shell = {
    version: '1.0',
    pre_tokenizer: { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    model: { type: 'BPE', vocab: {}, merges: [] },
  };
  const splitter = Encoder.fromString(JSON.stringify(shell)).getPreTokenizer();
  if (splitter === null) throw new Error('the tokenizers library lost a pre-tokenizer');
  return splitter;
}
