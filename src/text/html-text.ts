/**
 * HTML as plain text, by parse5's tokenizer. There is no tree: memory does not grow with the document, and neither
 * nesting nor misnesting costs more than the tags themselves.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Tokenizer, TokenizerMode, type Token } from 'parse5';
import { TextLayout } from './text-layout.js';

/** Characters handed to the tokenizer at once: a few milliseconds of work. */
const STEP = 32_768;
/** Open elements that are remembered; deeper ones are only counted. */
const MAX_OPEN = 64;

const words = (list: string): Set<string> => new Set(list.split(' '));
const paragraphs = words(
  'address article aside blockquote details dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr main ' +
    'menu nav ol p pre section table title ul',
);
const lines = words(
  'body caption center dd div dt figcaption head html legend li option summary tbody tfoot thead tr',
);
/** Elements whose content the tokenizer must not take for tags. */
const rawModes: Record<string, Tokenizer['state']> = {
  script: TokenizerMode.SCRIPT_DATA,
  title: TokenizerMode.RCDATA,
  textarea: TokenizerMode.RCDATA,
  style: TokenizerMode.RAWTEXT,
  xmp: TokenizerMode.RAWTEXT,
  iframe: TokenizerMode.RAWTEXT,
  noembed: TokenizerMode.RAWTEXT,
  noframes: TokenizerMode.RAWTEXT,
  noscript: TokenizerMode.RAWTEXT,
  plaintext: TokenizerMode.PLAINTEXT,
};
/** What a page holds that is not for reading. An unclosed one drops the rest, as browsers do. */
const dropped = words('script style iframe noembed noframes noscript template');
/** Tags that end an `svg` that was never closed, as HTML's parsing rules say. */
const leavesSvg = words('body blockquote div dl h1 h2 h3 h4 h5 h6 li ol p pre table ul');

interface Open {
  tag: string;
  /** Whether it has a level of the layout. */
  level: boolean;
  /** Of `ol`: the next number. Of `table`: the cells of the row so far. */
  count: number;
  /** Of `table`: `layout.written` when its row began. */
  rowStart: number;
}

/** One HTML document, or one fragment inside another text, onto a layout. */
export class HtmlText {
  private readonly tokenizer: Tokenizer;
  private readonly open: Open[] = [];
  private readonly deeper = new Map<string, number>();
  private drop: { tag: string; depth: number } | undefined;
  private inSvg = false;
  private preformatted = false;
  private afterPre = false;

  constructor(private readonly layout: TextLayout) {
    this.tokenizer = new Tokenizer(
      { sourceCodeLocationInfo: false },
      {
        onStartTag: (token) => this.startTag(token),
        onEndTag: ({ tagName }) => this.endTag(tagName),
        onCharacter: ({ chars }) => this.text(chars),
        onWhitespaceCharacter: ({ chars }) => this.text(chars),
        onNullCharacter: () => undefined,
        onComment: () => undefined,
        onDoctype: () => undefined,
        onEof: () => undefined,
      },
    );
  }

  write(html: string): void {
    this.tokenizer.write(html, false);
  }

  end(): void {
    this.tokenizer.write('', true);
    while (this.open.length > 0) this.close();
    this.layout.hold(false);
    this.layout.mark('');
  }

  private text(text: string): void {
    if (this.drop !== undefined || this.inSvg) return;
    if (!this.preformatted) {
      this.layout.flow(text);
      return;
    }
    // The line break right after <pre> is not part of it.
    this.layout.literal(this.afterPre && text.startsWith('\n') ? text.slice(1) : text);
    this.afterPre = false;
  }

  private startTag({ tagName: tag, attrs, selfClosing }: Token.TagToken): void {
    if (this.inSvg && selfClosing) return;
    const raw = rawModes[tag];
    if (raw !== undefined) this.tokenizer.state = raw;
    if (this.drop !== undefined) {
      if (tag === this.drop.tag) this.drop.depth += 1;
      return;
    }
    if (dropped.has(tag)) {
      this.drop = { tag, depth: 1 };
      return;
    }
    if (this.inSvg && !leavesSvg.has(tag)) return;
    this.inSvg = tag === 'svg' && !selfClosing;
    const attribute = (name: string): string | undefined => attrs.find((a) => a.name === name)?.value;
    this.layOut(tag, attribute);
  }

  private layOut(tag: string, attribute: (name: string) => string | undefined): void {
    const { layout } = this;
    if (tag === 'li') this.closeWithin('li', ['ul', 'ol', 'menu', 'table']);
    const nested = (tag === 'ul' || tag === 'ol') && this.open.at(-1)?.tag === 'li';
    if (lines.has(tag) || nested) layout.break(1);
    else if (paragraphs.has(tag)) layout.break(2);
    switch (tag) {
      case 'br':
        if (this.preformatted) layout.literal('\n');
        else layout.newline();
        return;
      case 'hr':
        layout.literal('---');
        layout.break(2);
        return;
      case 'img':
        layout.flow(attribute('alt') ?? '');
        return;
      case 'h1':
      case 'h2':
      case 'h3':
      case 'h4':
      case 'h5':
      case 'h6':
        layout.mark(`${'#'.repeat(Number(tag[1]))} `);
        return;
      case 'blockquote':
        this.enter(tag, '> ', '> ');
        return;
      case 'ul':
      case 'menu':
      case 'ol': {
        const start = Number(attribute('start') ?? 1);
        this.enter(tag, undefined, '', Number.isSafeInteger(start) ? start : 1);
        return;
      }
      case 'li': {
        const list = this.open.at(-1);
        const marker = list?.tag === 'ol' ? `${list.count++}. ` : '- ';
        this.enter(tag, marker, ' '.repeat(marker.length));
        return;
      }
      case 'pre':
      case 'xmp':
      case 'plaintext':
        layout.break(2);
        this.enter(tag);
        this.preformatted = true;
        this.afterPre = tag === 'pre';
        return;
      case 'table':
        this.enter(tag);
        return;
      case 'tr':
        this.row();
        return;
      case 'td':
      case 'th':
        this.cell();
    }
  }

  private endTag(tag: string): void {
    if (this.drop !== undefined) {
      if (tag === this.drop.tag && --this.drop.depth === 0) this.drop = undefined;
      return;
    }
    if (tag === 'svg') this.inSvg = false;
    if (this.inSvg) return;
    if (/^h[1-6]$/.test(tag)) this.layout.mark('');
    if (tag === 'td' || tag === 'th' || tag === 'tr' || tag === 'table') this.layout.hold(false);
    this.closeWithin(tag, tag === 'li' ? ['ul', 'ol', 'menu', 'table'] : ['table']);
    const nested = (tag === 'ul' || tag === 'ol') && this.open.at(-1)?.tag === 'li';
    if (lines.has(tag) || nested) this.layout.break(1);
    else if (paragraphs.has(tag)) this.layout.break(2);
  }

  private row(): void {
    const table = this.table();
    if (table === undefined) return;
    this.layout.hold(false);
    this.layout.break(1);
    table.count = 0;
    table.rowStart = this.layout.written;
  }

  private cell(): void {
    const table = this.table();
    if (table === undefined) return;
    this.layout.hold(false);
    if (table.count++ > 0) {
      if (this.layout.written !== table.rowStart) this.layout.resume();
      this.layout.literal(' | ');
    }
    this.layout.hold(true);
  }

  private table(): Open | undefined {
    return this.open.findLast((element) => element.tag === 'table');
  }

  private enter(tag: string, first?: string, rest = '', count = 0): void {
    if (this.open.length >= MAX_OPEN) {
      this.deeper.set(tag, (this.deeper.get(tag) ?? 0) + 1);
      return;
    }
    if (first !== undefined) this.layout.push(first, rest);
    this.open.push({ tag, level: first !== undefined, count, rowStart: this.layout.written });
  }

  /** Closes the innermost such element and all within it, unless one of `barriers` lies between. */
  private closeWithin(tag: string, barriers: readonly string[]): void {
    const deeper = this.deeper.get(tag) ?? 0;
    if (deeper > 0) {
      this.deeper.set(tag, deeper - 1);
      return;
    }
    const at = this.open.findLastIndex(
      (element) => element.tag === tag || (tag !== 'table' && barriers.includes(element.tag)),
    );
    if (this.open[at]?.tag !== tag) return;
    while (this.open.length > at) this.close();
  }

  private close(): void {
    const element = this.open.pop();
    if (element?.level === true) this.layout.pop();
    this.preformatted = this.open.some(({ tag }) => tag === 'pre' || tag === 'xmp' || tag === 'plaintext');
  }
}

/** A document's HTML, in pieces, as text in pieces. */
export async function* htmlToText(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  const layout = new TextLayout();
  const html = new HtmlText(layout);
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += STEP) {
      html.write(piece.slice(at, at + STEP));
      const text = layout.take();
      if (text !== '') yield text;
      await nextTurn();
    }
  }
  html.end();
  yield layout.take();
}
