/** Markdown (CommonMark with tables and strikethrough) as plain text, by markdown-it. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import MarkdownIt, { type Token } from 'markdown-it';
import { HtmlText } from './html-text.js';
import { MarkdownSegments } from './markdown-segments.js';
import { TextLayout } from './text-layout.js';

/** A longer paragraph stays as it is written: it is no prose, and its marks would cost more than they say. */
const MAX_INLINE = 16_384;

const parser = new MarkdownIt('default', { html: true });
parser.core.ruler.at('inline', (state) => {
  for (const token of state.tokens) {
    if (token.type !== 'inline') continue;
    token.children = [];
    if (token.content.length <= MAX_INLINE) {
      state.md.inline.parse(token.content, state.md, state.env, token.children);
    } else {
      const text = new state.Token('code_inline', '', 0);
      text.content = token.content;
      token.children.push(text);
    }
  }
});

/** A document's Markdown, in pieces, as text in pieces. */
export async function* markdownToText(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  const segments = new MarkdownSegments();
  const layout = new TextLayout();
  // Shared, so that a link's definition holds for all that follows it.
  const env: Record<string, unknown> = {};
  let first = true;
  const convert = async function* (ready: string[]): AsyncGenerator<string> {
    for (const segment of ready) {
      render(first ? withoutFrontMatter(segment, layout) : segment, layout, env);
      first = false;
      const text = layout.take();
      if (text !== '') yield text;
      await nextTurn();
    }
  };
  for await (const piece of pieces) yield* convert(segments.push(piece));
  yield* convert(segments.end());
}

/** The YAML between two lines of `---` at the start, which Markdown would take for a heading, stays as it is. */
function withoutFrontMatter(source: string, layout: TextLayout): string {
  const found = /^---\r?\n([\s\S]*?)\n---[ \t]*(?:\r?\n|$)/.exec(source);
  if (found === null) return source;
  layout.literal(found[1] ?? '');
  layout.break(2);
  return source.slice(found[0].length);
}

function render(source: string, layout: TextLayout, env: Record<string, unknown>): void {
  /** Next numbers of the open lists; null: bullets. */
  const lists: (number | null)[] = [];
  let cells = 0;
  layout.break(2);
  for (const token of parser.parse(source, env)) {
    switch (token.type) {
      case 'heading_open':
        layout.break(2);
        layout.mark(`${'#'.repeat(Number(token.tag[1]))} `);
        break;
      case 'heading_close':
        layout.mark('');
        layout.break(2);
        break;
      case 'paragraph_open':
      case 'paragraph_close':
        layout.break(token.hidden ? 1 : 2);
        break;
      case 'bullet_list_open':
        layout.break(lists.length > 0 ? 1 : 2);
        lists.push(null);
        break;
      case 'ordered_list_open':
        layout.break(lists.length > 0 ? 1 : 2);
        lists.push(Number(token.attrGet('start') ?? 1));
        break;
      case 'bullet_list_close':
      case 'ordered_list_close':
        lists.pop();
        layout.break(lists.length > 0 ? 1 : 2);
        break;
      case 'list_item_open': {
        const next = lists.at(-1) ?? null;
        const marker = next === null ? '- ' : `${next}. `;
        if (next !== null) lists[lists.length - 1] = next + 1;
        layout.break(1);
        layout.push(marker, ' '.repeat(marker.length));
        break;
      }
      case 'blockquote_open':
        layout.break(2);
        layout.push('> ', '> ');
        break;
      case 'list_item_close':
      case 'blockquote_close':
        layout.pop();
        layout.break(token.type === 'blockquote_close' ? 2 : 1);
        break;
      case 'fence':
      case 'code_block':
        layout.break(2);
        layout.literal(token.content);
        layout.break(2);
        break;
      case 'hr':
        layout.break(2);
        layout.literal('---');
        layout.break(2);
        break;
      case 'html_block': {
        const html = new HtmlText(layout);
        html.write(token.content);
        html.end();
        break;
      }
      case 'table_open':
      case 'table_close':
        layout.break(2);
        break;
      case 'tr_open':
        layout.break(1);
        cells = 0;
        break;
      case 'th_open':
      case 'td_open':
        if (cells++ > 0) layout.literal(' | ');
        break;
      case 'inline':
        inline(token.children ?? [], layout);
    }
  }
  layout.break(2);
}

function inline(tokens: readonly Token[], layout: TextLayout): void {
  let dropped: string | undefined;
  for (const { type, content, children } of tokens) {
    if (type === 'html_inline') {
      const tag = /^<(\/?)([a-z][a-z0-9]*)/i.exec(content);
      const name = tag?.[2]?.toLowerCase();
      if (dropped !== undefined) {
        if (name === dropped && tag?.[1] === '/') dropped = undefined;
      } else if (name === 'br') layout.newline();
      else if ((name === 'script' || name === 'style') && tag?.[1] === '') dropped = name;
    } else if (dropped !== undefined) continue;
    else if (type === 'softbreak' || type === 'hardbreak') layout.literal('\n');
    else if (type === 'image') inline(children ?? [], layout);
    else if (type === 'text' || type === 'code_inline') layout.literal(content);
  }
}
