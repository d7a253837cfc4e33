/**
 * The pre-tokenizer of GPT-4 style vocabularies (Llama 3, Qwen2 and later, the demo model), in one
 * pass: linear whatever the text, and able to say that it needs to see more. The library's own
 * walks the same pattern with a backtracking regular expression, which ends the process after ten
 * million steps: a run of so many spaces is enough.
 */
import { LETTER, NEWLINE, NUMBER, OTHER, SPACE, type CodePoints } from './code-points.js';

const PATTERN = (numbers: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** The patterns that are walked here, with how many digits they keep together. */
const DIGITS = new Map([
  [PATTERN('\\p{N}{1,3}'), 3],
  [PATTERN('\\p{N}'), 1],
]);

/** Undefined: not such a pattern. */
export function digitsOf(pattern: string): number | undefined {
  return DIGITS.get(pattern);
}

const APOSTROPHE = 0x27;
const BLANK = 0x20;
/** With case folding, which takes U+017F, the long s, for an s. */
const ONE_LETTER = /[stmd]/iu;
const TWO_LETTERS = /^(?:re|ve|ll)$/i;

export class PreTokens {
  constructor(
    private readonly classes: CodePoints,
    private readonly digits: number,
  ) {}

  /**
   * The end (UTF-16 index) of the pre-token that starts at `start`, or -1 when it depends on what
   * follows `text`. `last`: nothing follows. `text` must not end inside a surrogate pair.
   */
  end(text: string, start: number, last: boolean): number {
    const { length } = text;
    const open = last ? length : -1;
    const unit = text.charCodeAt(start);
    const first = this.classAt(text, start);
    const next = start + widthAt(text, start);

    if (unit === APOSTROPHE) {
      if (!last && start + 3 > length) return -1;
      const one = text.charAt(start + 1);
      if (one !== '' && ONE_LETTER.test(one)) return start + 2;
      if (TWO_LETTERS.test(text.slice(start + 1, start + 3))) return start + 3;
    }
    if (first === LETTER) return this.run(text, next, LETTER) ?? open;
    if (first === NUMBER) return this.numbers(text, start, last);
    // What is left may stand before letters, CR and LF apart.
    if (first !== NEWLINE) {
      if (next >= length && !last) return -1;
      const second = next < length ? this.classAt(text, next) : 0;
      if (second === LETTER) return this.run(text, next, LETTER) ?? open;
      const others = first === OTHER ? next : unit === BLANK && second === OTHER ? next : -1;
      if (others !== -1) {
        const end = this.run(text, others, OTHER);
        return end === undefined ? open : (this.run(text, end, NEWLINE) ?? open);
      }
    }
    return this.whiteSpace(text, start, last);
  }

  private numbers(text: string, start: number, last: boolean): number {
    let at = start;
    for (let count = 0; count < this.digits; count++) {
      if (at >= text.length) return last ? at : -1;
      if (this.classAt(text, at) !== NUMBER) return at;
      at += widthAt(text, at);
    }
    return at;
  }

  /** Up to the last CR or LF; without one all but the character before what follows. */
  private whiteSpace(text: string, start: number, last: boolean): number {
    let newline = -1;
    for (let at = start; ; at++) {
      if (at >= text.length && !last) return -1;
      const found = at < text.length ? this.classAt(text, at) : 0;
      if (found === NEWLINE) newline = at;
      else if (found !== SPACE) {
        if (newline !== -1) return newline + 1;
        return at === text.length || at - start === 1 ? at : at - 1;
      }
    }
  }

  /** The first index from `at` that is not of the class; undefined when the text ends before it. */
  private run(text: string, at: number, wanted: number): number | undefined {
    const { table } = this.classes;
    while (at < text.length) {
      const unit = text.charCodeAt(at);
      if (unit < 0xd800 || unit > 0xdbff) {
        if ((table[unit] || this.classes.ask(unit)) !== wanted) return at;
        at += 1;
      } else {
        if (this.classAt(text, at) !== wanted) return at;
        at += 2;
      }
    }
    return undefined;
  }

  private classAt(text: string, at: number): number {
    const codePoint = text.codePointAt(at) ?? 0;
    return this.classes.table[codePoint] || this.classes.ask(codePoint);
  }
}

function widthAt(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff ? 2 : 1;
}
