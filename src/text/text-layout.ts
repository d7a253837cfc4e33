/**
 * Plain text that keeps a document's structure: blank lines between blocks, `# ` before headings, `- ` and numbers
 * before list items, `> ` before quotes. Written piece by piece; what was written is taken out with `take`.
 */

/** Deeper levels are not indented further: nesting costs output in proportion to its depth. */
const MAX_LEVELS = 12;

interface Level {
  first: string;
  rest: string;
  used: boolean;
}

export class TextLayout {
  private parts: string[] = [];
  private readonly levels: Level[] = [];
  private deeper = 0;
  /** Line breaks due before the next text. */
  private breaks = 0;
  private space = false;
  private inLine = false;
  private heading = '';
  private heldAt = -1;
  /** Counts what was written; equal numbers mean that nothing came in between. */
  written = 0;

  /** What has been written since the last call. */
  take(): string {
    const text = this.parts.join('');
    this.parts = [];
    return text;
  }

  /** Ends the line; with 2, a blank line follows. Never more than were asked for at once. */
  break(lines: 1 | 2): void {
    if (this.heldAt === this.written) return;
    this.breaks = Math.max(this.breaks, lines);
    this.inLine = false;
    this.space = false;
  }

  /** A line break of the author's: two make a blank line. */
  newline(): void {
    this.breaks = Math.min(this.breaks + 1, 2);
    this.inLine = false;
    this.space = false;
  }

  /** Breaks do nothing before the next text: a table's cell goes on in the line of its row. */
  hold(on: boolean): void {
    this.heldAt = on ? this.written : -1;
  }

  /** Takes breaks back that nothing has followed yet. */
  resume(): void {
    this.breaks = 0;
    this.space = false;
    this.inLine = true;
  }

  /** Text in which runs of white space count as one space. */
  flow(text: string): void {
    const collapsed = text.replace(/[\t\n\f\r ]+/g, ' ');
    const from = collapsed.startsWith(' ') ? 1 : 0;
    if (from === 1 && this.inLine) this.space = true;
    const to = collapsed.endsWith(' ') ? collapsed.length - 1 : collapsed.length;
    if (to <= from) return;
    this.write(collapsed.slice(from, to));
    this.space = to < collapsed.length;
  }

  /** Text as it is, line breaks and white space included. */
  literal(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', from)) {
      if (at > from) this.write(text.slice(from, at));
      this.breaks += 1;
      this.inLine = false;
      this.space = false;
      from = at + 1;
    }
    if (from < text.length) this.write(text.slice(from));
  }

  /** What the lines of a list item or a quote begin with, within what is around it. */
  push(first: string, rest: string): void {
    if (this.levels.length >= MAX_LEVELS) this.deeper += 1;
    else this.levels.push({ first, rest, used: false });
  }

  pop(): void {
    if (this.deeper > 0) this.deeper -= 1;
    else this.levels.pop();
  }

  /** Goes before the next text; an empty one takes it back. */
  mark(heading: string): void {
    this.heading = heading;
  }

  private write(text: string): void {
    if (!this.inLine) {
      if (this.written > 0 && this.breaks > 0) this.parts.push('\n'.repeat(this.breaks));
      for (const level of this.levels) {
        this.parts.push(level.used ? level.rest : level.first);
        level.used = true;
      }
      this.breaks = 0;
      this.inLine = true;
      this.space = false;
    } else if (this.space) {
      this.parts.push(' ');
      this.space = false;
    }
    if (this.heading !== '') {
      this.parts.push(this.heading);
      this.heading = '';
    }
    this.parts.push(text);
    this.written += 1;
  }
}
