import { expect, test } from 'vitest';
import { htmlToText } from '../../src/text/html-text.js';

async function convert(html: string, size = 65_536): Promise<string> {
  // eslint-disable-next-line @typescript-eslint/require-await -- an async source is what is read
  async function* pieces(): AsyncGenerator<string> {
    for (let at = 0; at < html.length; at += size) yield html.slice(at, at + size);
  }
  let text = '';
  for await (const piece of htmlToText(pieces())) text += piece;
  return text;
}

const page = `<!doctype html><html><head><title>My &amp; page</title><style>x{}</style>
<script>if (a<b) document.write("</p>")</script></head><body><!-- not this -->
<nav><a href=x>Home</a> <a href=y>Docs</a></nav><h1> Big
 title</h1><p>Hello <b>bold</b>,<i>it</i> &eacute;&#128512;.<p>Second<br>line<br><br>third
<ul><li>one<li>two <ul><li>deep</ul><li>three</ul><ol start=3><li>c</li><li>d<p>more</p></li></ol>
<blockquote><p>quoted</p></blockquote>
<pre>
code  x
  indented

 end</pre>after
<table><tr><th>A<th>B<th>C</tr><tr><td><p>1</p></td><td></td><td><p>2</p></td></tr></table>tail
<svg><text>drawn</text></svg><img alt="a picture"><template><p>t</p></template>
<noscript>no script</noscript><h2></h2><p>last &lt;b&gt;`;
const text = `My & page

Home Docs

# Big title

Hello bold,it é😀.

Second
line

third

- one
- two
  - deep
- three

3. c
4. d

   more

> quoted

code  x
  indented

 end

after

A | B | C
1 |  | 2

tail a picture

last <b>`;

test('a page becomes text that keeps its structure, in whatever pieces it comes', async () => {
  for (const size of [1, 2, 7, 100, 65_536]) expect(await convert(page, size)).toBe(text);
});

test('what is not closed, not open or closed crosswise is still text', async () => {
  expect(await convert('<ul><li>a</b></i></li><li>b')).toBe('- a\n- b');
  expect(await convert('<svg><path>drawn<p>said')).toBe('said');
  expect(await convert('</li></table>a<b')).toBe('a');
  expect(await convert('<td>a<td>b')).toBe('ab');
  expect(await convert('<script>never closed <p>text')).toBe('');
  expect(await convert('<table><tr><td></td></tr></table><p>x')).toBe('x');
});

test('nesting without end takes time and memory in proportion', async () => {
  const started = performance.now();
  for (const unit of [
    '<',
    '<b>',
    '<ul><li>',
    '<table><tr><td>',
    '<svg><title>',
    '</p>',
    '<!--',
    '&a',
    '<a b=c ',
  ]) {
    await convert(unit.repeat(2_000_000 / unit.length));
  }
  // A hundred times what it takes alone: what would not be linear takes minutes.
  expect(performance.now() - started).toBeLessThan(60_000);
  const deep = await convert('<blockquote>a'.repeat(100_000));
  expect(deep.length).toBeLessThan(100_000 * 30);
}, 90_000);
