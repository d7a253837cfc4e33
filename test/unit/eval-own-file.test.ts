import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readOwnFile } from '../../src/eval/own-file.js';
import { plot } from '../../src/eval/plot.js';
import { markdown } from '../../src/eval/report.js';
import type { EvalRequest } from '../../src/eval/requests.js';
import { parseVariants } from '../../src/eval/variants.js';

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'eval-'))));
afterAll(() => rm(folder, { recursive: true }));

async function read(...lines: unknown[]) {
  const file = join(folder, 'own.jsonl');
  await writeFile(
    file,
    lines.map((each) => (typeof each === 'string' ? each : JSON.stringify(each))).join('\n'),
  );
  return readOwnFile(file, 'substring');
}
const line = { custom_id: 'a', document: { path: 'a.txt' }, question: 'Who?', expected: 'Ann' };

test('a line keeps its own measure and task; paths are beside the file', async () => {
  const requests = await read(line, {
    ...line,
    custom_id: 'b',
    expected: ['x', 'y'],
    measure: 'f1',
    task: 't',
  });
  expect(
    requests.map(({ custom_id, measure, task, expected }) => [custom_id, measure, task, expected]),
  ).toEqual([
    ['a', 'substring', 'all', [['Ann']]],
    ['b', 'f1', 't', [['x', 'y']]],
  ]);
  expect(requests[0]?.document).toEqual({ path: join(folder, 'a.txt') });
});

test('everything that is wrong is listed with its line and field', async () => {
  const bad = read('{', { ...line, expected: [] }, line, { ...line, measure: 'rouge' }, line, '{"a":1}');
  await expect(bad).rejects.toMatchObject({ code: 'INPUT' });
  await expect(bad).rejects.toThrow(/line 1, line: is not JSON/);
  await expect(bad).rejects.toThrow(/line 2, expected: /);
  await expect(bad).rejects.toThrow(/line 4, measure: /);
  await expect(bad).rejects.toThrow(/line 5, custom_id: 'a' is also on line 3/);
  await expect(read()).rejects.toThrow(/line 0, file: has no line/);
});

test('variants: what differs from a method, and what is none', () => {
  const one = (text: string) => parseVariants(text)[0];
  expect(one('ring:layout=contiguous')?.options).toEqual({ method: 'ring', ringLayout: 'contiguous' });
  expect(one('apb:blocks=balanced:passing=0:query=none')?.options).toEqual({
    method: 'apb',
    blocks: 'balanced',
    passing: 0,
    anchorQuery: 'none',
  });
  expect(one('apb:anchor=12%:passing=64:ranks=8')).toMatchObject({
    ranks: 8,
    shares: { anchor_per_block: 0.12 },
    options: { method: 'apb', passing: 64 },
  });
  for (const wrong of ['apb:layout=zigzag2', 'apb:ranks=x', 'apb:anchor=1.5', 'apb:anchor=', 'apb:x=1']) {
    expect(() => parseVariants(wrong)).toThrow(/none of ranks=N, anchor=TOKENS/);
  }
  expect(() => parseVariants('best')).toThrow(/none of full, ring/);
});

test('all variants: what was named as well stays what the person named', () => {
  const all = parseVariants('apb,all');
  expect(all.filter(({ name }) => name === 'apb')).toHaveLength(1);
  expect(new Set(all.map(({ options }) => options.method))).toEqual(
    new Set(['full', 'ring', 'ulysses', 'star', 'apb']),
  );
  expect(all.flatMap(({ ranks }) => ranks ?? [])).toEqual([1, 2, 4, 8]);
});

const request = (i: number): EvalRequest => ({
  custom_id: String(i),
  group: i < 4 ? '2048 tokens' : '8192 tokens',
  task: 't',
  measure: 'all',
  expected: [['x']],
});
const requests = Array.from({ length: 8 }, (_, i) => request(i));
const scored = (variant: string, right: (i: number) => boolean, prefillSeconds: number) => ({
  variant,
  ranks: 4,
  batches: { g: 'b' },
  results: new Map(
    requests.map((_, i) => [String(i), { score: right(i) ? 1 : 0, prefillSeconds, decodeSeconds: 2 }]),
  ),
});
const all = [
  scored('full', () => true, 4),
  scored('apb:a<b', (i) => i % 2 === 0, 1),
  scored('ring', () => true, 4),
];

test('the report pairs each method with full on the same documents', () => {
  const text = markdown(requests, all, 'prefill');
  const lengths = text.split('**').filter((_, i) => i % 2 === 1);
  expect(lengths).toEqual(['2048 tokens, n = 4', '8192 tokens, n = 4', 'All']);
  expect(text).toContain('| full | 4.00 |  |  |  | 100 [51, 100] |');
  expect(text).toMatch(/\| apb:a<b \| 1.00 \| -50 \[-88, -13\] \| 0, 4 \| 0\.13 \| 50 \[/);
  expect(text).toContain('| ring | 4.00 | none differs | 0, 0 | 1 | 100 [');
  expect(markdown(requests, all, 'prefill and decode')).toContain('| full | 6.00 |');
});

test('the plot has a panel a length, a mark a method, and no text that breaks XML', () => {
  const svg = plot(requests, all, 'prefill');
  expect(svg.match(/mean prefill, s/g)).toHaveLength(2);
  expect(svg.match(/<path transform/g)).toHaveLength(3 * 2 + 3);
  expect(svg).toContain('apb:a&lt;b');
  expect(svg).not.toContain('NaN');
});
