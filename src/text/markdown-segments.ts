/**
 * Cuts Markdown into pieces that can be parsed one after the other, so that a document of any size takes bounded memory
 * and no parse is long. A cut lies where a blank line is followed by text at the margin, outside of fenced code and
 * of HTML that may hold blank lines; only where there is no such place for long, it lies at any line.
 */

/** Characters after which the next good place is taken, and after which any line is. */
const ENOUGH = 16_384;
const AT_MOST = 65_536;

interface Fence {
  mark: string;
  opener: string;
}

const opensFence = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})/;
const htmlBlocks: [RegExp, RegExp][] = [
  [/^ {0,3}<(?:script|pre|style|textarea)(?:[\s>]|$)/i, /<\/(?:script|pre|style|textarea)>/i],
  [/^ {0,3}<!--/, /-->/],
];

export class MarkdownSegments {
  private carry = '';
  private segment = '';
  private blank = false;
  private fence: Fence | undefined;
  private htmlEnd: RegExp | undefined;

  /** The segments that this piece of text completes. */
  push(piece: string): string[] {
    const done: string[] = [];
    let from = 0;
    for (let at = piece.indexOf('\n'); at !== -1; at = piece.indexOf('\n', from)) {
      this.line(this.carry + piece.slice(from, at + 1), done);
      this.carry = '';
      from = at + 1;
    }
    this.carry += piece.slice(from);
    while (this.carry.length > AT_MOST) {
      this.line(this.carry.slice(0, AT_MOST), done);
      this.carry = this.carry.slice(AT_MOST);
    }
    return done;
  }

  end(): string[] {
    const done: string[] = [];
    if (this.carry !== '') this.line(this.carry, done);
    this.carry = '';
    if (this.segment !== '') done.push(this.segment);
    this.segment = '';
    return done;
  }

  private line(line: string, done: string[]): void {
    const inside = this.fence !== undefined || this.htmlEnd !== undefined;
    const good = this.segment.length >= ENOUGH && this.blank && !inside && /^\S/.test(line);
    if (good || this.segment.length + line.length > AT_MOST) {
      if (this.segment !== '') done.push(this.segment);
      // The rest of a block of code is still code.
      this.segment = this.fence?.opener ?? '';
    }
    this.segment += line;
    this.blank = line.trim() === '';
    this.follow(line.slice(0, 1000));
  }

  /** Whether the next line is within fenced code or such HTML. */
  private follow(line: string): void {
    if (this.fence !== undefined) {
      const { mark } = this.fence;
      const close = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line.trimEnd())?.[1];
      if (close !== undefined && close[0] === mark[0] && close.length >= mark.length) this.fence = undefined;
      return;
    }
    if (this.htmlEnd !== undefined) {
      if (this.htmlEnd.test(line)) this.htmlEnd = undefined;
      return;
    }
    const mark = opensFence.exec(line.trimEnd())?.[1];
    if (mark !== undefined) {
      this.fence = { mark: mark.slice(0, 100), opener: `${mark.slice(0, 100)}\n` };
      return;
    }
    const [start, end] = htmlBlocks.find(([opens]) => opens.test(line)) ?? [];
    if (start !== undefined && end !== undefined && !end.test(line.replace(start, ''))) this.htmlEnd = end;
  }
}
