import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readOwnFile } from '../../src/eval/own-file.js';
import { plot } from '../../src/eval/plot.js';
import { markdown } from '../../src/eval/report.js';
import type { EvalRequest } from '../../src/eval/requests.js';
import { parseVariant } from '../../src/eval/variants.js';

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
    ['a', 'substring', 'all', ['Ann']],
    ['b', 'f1', 't', ['x', 'y']],
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
  expect(parseVariant('ring:layout=contiguous')).toMatchObject({ method: 'ring', ringLayout: 'contiguous' });
  expect(parseVariant('apb:blocks=balanced:passing=0')).toMatchObject({ blocks: 'balanced', passing: 0 });
  expect(() => parseVariant('apb:layout=zigzag2')).toThrow(/none of anchor=TOKENS/);
  expect(() => parseVariant('best')).toThrow(/none of full, ring/);
});

const request = (i: number): EvalRequest => ({
  custom_id: String(i),
  task: 't',
  length: i < 4 ? 2048 : 8192,
  measure: 'all',
  expected: ['x'],
});
const requests = Array.from({ length: 8 }, (_, i) => request(i));
const scored = (variant: string, right: (i: number) => boolean, prefillSeconds: number) => ({
  variant,
  batch: 'b',
  results: new Map(requests.map((_, i) => [String(i), { score: right(i) ? 1 : 0, prefillSeconds }])),
});
const all = [
  scored('full', () => true, 4),
  scored('apb:a<b', (i) => i % 2 === 0, 1),
  scored('ring', () => true, 4),
];

test('the report pairs each method with full on the same documents', () => {
  const text = markdown(requests, all);
  expect(text).toContain('| t, 2048 | 4 | 100 [51, 100], 4.00 s | 50 [15, 85], 1.00 s |');
  expect(text).toMatch(/\| apb:a<b \| 8 \| -50 \[-88, -13\] \| 0 \| 4 \| 0\.13 \|/);
  expect(text).toContain('| ring | 8 | none differs | 0 | 0 | 1.0 |');
});

test('the plot has a panel a length, a mark a method, and no text that breaks XML', () => {
  const svg = plot(requests, all);
  expect(svg.match(/mean prefill, s/g)).toHaveLength(2);
  expect(svg.match(/<circle/g)).toHaveLength(3 * 2 + 3);
  expect(svg).toContain('apb:a&lt;b');
  expect(svg).not.toContain('NaN');
});
