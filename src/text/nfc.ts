/**
 * NFC as the tokenizers library does it, without its cost where nothing can change. Its Unicode
 * tables decide, not Node's: two versions differ in characters that only one of them knows.
 */
import type { Normalizer } from 'tokenizers';

/**
 * Characters that NFC leaves alone and that never join what stands before them: a text of these is
 * in NFC, and a text may be cut before any of them.
 */
const INERT =
  '\\u0000-\\u02ff\\u0400-\\u0482\\u0531-\\u0556\\u0561-\\u0587\\u05d0-\\u05ea\\u0620-\\u064a' +
  '\\u0904-\\u0928\\u0e01-\\u0e30\\u2010-\\u2027\\u2030-\\u205e\\u20a0-\\u20bf\\u2190-\\u21ff\\u2500-\\u27ff' +
  '\\u3001-\\u3029\\u3041-\\u3096\\u30a1-\\u30fa\\u4e00-\\u9fa5\\uac00-\\ud7a3\\uff01-\\uffbe' +
  '\\u{1f300}-\\u{1faff}\\u{20000}-\\u{2a6d6}';
const ONLY_INERT = new RegExp(`^[${INERT}]*$`, 'u');

export function isInert(text: string): boolean {
  return ONLY_INERT.test(text);
}

/** Texts come in pieces; what may still join the next piece waits for it. */
export class Nfc {
  private waiting = '';
  private parts: string[] = [];
  private length = 0;

  constructor(private readonly normalizer: Normalizer) {}

  /** The text up to where the next piece cannot change it; all of it when `last`. */
  push(piece: string, last: boolean): string {
    this.parts.push(piece);
    this.length += piece.length;
    // What waits is looked at again only when it has doubled, so that the whole is linear.
    if (!last && this.length < this.waiting.length) return '';
    const text = this.waiting + this.parts.join('');
    this.parts = [];
    this.length = 0;
    const cut = last ? text.length : lastInert(text);
    this.waiting = text.slice(cut);
    const done = text.slice(0, cut);
    return isInert(done) ? done : this.normalizer.normalizeString(done);
  }
}

/** Where the last inert character starts; 0 without one. */
function lastInert(text: string): number {
  for (let at = text.length - 1; at > 0; at--) {
    const unit = text.charCodeAt(at);
    if (unit >= 0xdc00 && unit <= 0xdfff) at -= 1;
    if (ONLY_INERT.test(String.fromCodePoint(text.codePointAt(at) ?? 0))) return at;
  }
  return 0;
}
