import { expect, test } from 'vitest';
import { markdownToText } from '../../src/text/markdown-text.js';

async function convert(markdown: string, size = 65_536): Promise<string> {
  // eslint-disable-next-line @typescript-eslint/require-await -- an async source is what is read
  async function* pieces(): AsyncGenerator<string> {
    for (let at = 0; at < markdown.length; at += size) yield markdown.slice(at, at + size);
  }
  let text = '';
  for await (const piece of markdownToText(pieces())) text += piece;
  return text;
}

const source = `---
title: x
---
# Title *em*

Words **bold**, \`code <b>\`, [link](http://x.y "t"), ![alt *x*](i.png), &eacute; &lt; \\* a<br>b
second line [ref][r] <https://auto.link> ~~gone~~ <script>alert(1)</script>!

[r]: http://z

Setext
===

- one
- two
  1. deep
  2. deeper
- three

> quote
> > nested

\`\`\`js
if (a < b) {
    c;

}
\`\`\`

| a | b |
|---|---|
| 1 | 2 |
|  | x |

<div><p>html <b>block</b></p>
<!-- c -->
</div>

***
end`;
const text = `title: x

# Title em

Words bold, code <b>, link, alt x, é < * a
b
second line ref https://auto.link gone !

# Setext

- one
- two
  1. deep
  2. deeper
- three

> quote

> > nested

if (a < b) {
    c;

}

a | b
1 | 2
 | x

html block

---

end`;

test('a document becomes text that keeps its structure, in whatever pieces it comes', async () => {
  for (const size of [1, 7, 65_536]) expect(await convert(source, size)).toBe(text);
});

test('long documents are parsed in segments; code, comments and lists are not cut', async () => {
  const section = (i: number) =>
    `## Part ${i}\n\n<!-- hidden\n\nhidden -->\n\n\`\`\`\n# code ${i}\n\n# more\n\`\`\`\n\n- a [b][x]\n\n  c\n\n`;
  const expected = (i: number) => `## Part ${i}\n\n# code ${i}\n\n# more\n\n- a b\n\n  c`;
  const count = Array.from({ length: 3000 }, (_, i) => i);
  const all = await convert(`[x]: http://y\n\n${count.map(section).join('')}`);
  expect(all === count.map(expected).join('\n\n')).toBe(true);
  const code = Array.from({ length: 20_000 }, (_, i) => `# line ${i}`).join('\n');
  const long = await convert(`\`\`\`\n${code}\n\`\`\`\n\n# end`);
  expect(long.replace(/\n+/g, '\n') === `${code}\n# end`).toBe(true);
});

test('hostile text takes time and memory in proportion', async () => {
  const started = performance.now();
  for (const unit of ['[', '<', '*', '`', '![', '_a']) {
    const converted = await convert(unit.repeat(10_000_000 / unit.length));
    expect(converted.length).toBeLessThan(10_100_000);
  }
  for (const unit of ['> ', '- ', '*a_ **b', '[a](', '[a]: u\n', `${'['.repeat(8000)}\n\n`]) {
    await convert(unit.repeat(200_000 / unit.length));
  }
  // A hundred times what it takes alone: what would not be linear takes minutes.
  expect(performance.now() - started).toBeLessThan(90_000);
}, 120_000);
