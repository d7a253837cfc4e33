import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { infiniteBenchRequests, type InfiniteBenchPlan } from '../../src/eval/infinitebench/requests.js';
import { rougeLsum } from '../../src/eval/infinitebench/rouge.js';
import { INFINITEBENCH_SCORES as scores } from '../../src/eval/infinitebench/scores.js';
import { INFINITEBENCH_NAMES } from '../../src/eval/infinitebench/tasks.js';

/** Our own, in the layout of InfiniteBench's files. */
const folder = 'test/fixtures/infinitebench';
const words = (text: string) => Promise.resolve(text.split(/\s+/).length);
const read = async (plan: Partial<InfiniteBenchPlan> = {}) => {
  const found = [];
  for await (const request of infiniteBenchRequests({ folder, ...plan }, words)) found.push(request);
  return found;
};

test('a request for each line, grouped and measured by its task, with what is expected of it', async () => {
  const requests = await read();
  expect(new Set(requests.map(({ task }) => task))).toEqual(new Set(INFINITEBENCH_NAMES));
  for (const { task, group, measure } of requests) expect([group, measure]).toEqual([task, task]);
  const one = (task: string) => requests.find((request) => request.task === task);
  expect(one('longbook_choice_eng')).toMatchObject({
    custom_id: 'longbook_choice_eng-1',
    expected: [['Lamps', 'B']],
    questions: [expect.stringContaining('What did Orla Vint mend?\nA. Boats\nB. Lamps\nC. Clocks\nD. Roofs')],
  });
  expect(one('math_calc')?.expected).toEqual([['3', '7', '5']]);
  expect(one('code_run')?.questions[0]).toContain('func_1(-4)');
  expect(one('kv_retrieval')?.questions[0]).toContain('Key: "');
  expect(one('passkey')).toMatchObject({ questions: ['What is the pass key?'], expected: [['60512']] });
});

test('what is right by a task is right for its own fixture', async () => {
  const right: Record<string, string> = {
    passkey: 'It is 60512.',
    longbook_qa_chn: '白石镇。',
    longbook_choice_eng: 'B. Lamps',
    code_debug: 'The answer is: B',
    math_calc: '[3, 7, 5]',
    longdialogue_qa_eng: 'Orla.',
  };
  for (const { task, expected } of await read({ documents: 1 })) {
    const score = scores[task as keyof typeof scores];
    expect([task, score(right[task] ?? expected[0]?.[0] ?? '', expected[0] ?? [])]).toEqual([task, 1]);
    expect([task, score('nothing', expected[0] ?? [])]).toEqual([task, 0]);
    expect([task, score('', expected[0] ?? [])]).toEqual([task, 0]);
  }
});

test('the first lines, named tasks, and documents that lose their middle', async () => {
  const requests = await read({ tasks: ['passkey'], documents: 1, tokens: 100 });
  expect(requests).toHaveLength(1);
  const document = requests[0]?.document as string;
  expect(await words(document)).toBeLessThanOrEqual(100);
  expect(await words(document)).toBeGreaterThan(90);
  const [whole] = await read({ tasks: ['passkey'], documents: 1 });
  const text = whole?.document as string;
  expect(text.startsWith(document.slice(0, 40))).toBe(true);
  expect(text.endsWith(document.slice(-40))).toBe(true);
});

test('a folder without the files, and a line that is none of its task, are refused', async () => {
  const other = await mkdtemp(join(tmpdir(), 'eval-'));
  onTestFinished(() => rm(other, { recursive: true }));
  await expect(read({ folder: other })).rejects.toMatchObject({ code: 'EVAL_FILE' });
  await expect(read({ folder: other, tasks: ['passkey'] })).rejects.toThrow('passkey.jsonl is not there');
  const bad = async (line: object, message: RegExp) => {
    await writeFile(join(other, 'code_debug.jsonl'), '\n' + JSON.stringify(line));
    await expect(read({ folder: other })).rejects.toThrow(message);
  };
  const line = { context: 'c', input: '', answer: ['x'], options: ['w', 'x', 'y', 'z'] };
  await bad({ ...line, context: 1 }, /line 2, context: /);
  await bad({ ...line, options: ['x'] }, /line 2, options: has no question of code_debug/);
  await bad({ ...line, answer: 'v' }, /line 2, answer: 'v' is none of the options/);
});

test('choices: by first letter, by text, behind a phrase, or by the first lone letter', () => {
  const score = (answer: string) => scores.longbook_choice_eng(answer, ['Lamps', 'B']);
  expect(['B', 'B. Lamps', 'Lamps', 'So the answer is: B', 'it must be B'].map(score)).toEqual([
    1, 1, 1, 1, 1,
  ]);
  expect(['A. B', 'the answer is: C, not B', 'it is C or B'].map(score)).toEqual([0, 0, 0]);
});

test('numbers: the first, the last, and as many as agree from the start', () => {
  expect(scores.passkey('1 60512', ['60512'])).toBe(0);
  expect(scores.math_find('It is 3.50, not 4', ['3.5'])).toBe(1);
  expect(scores.code_run('func_1(2) is -7.', ['-7'])).toBe(1);
  expect(scores.code_run('-7 is it, 8', ['-7'])).toBe(0);
  expect(scores.math_calc('3, 7, 6, 1', ['3', '7', '5', '1'])).toBe(0.5);
});

test('a fault is named by letter or name behind a phrase, or by a letter at the start', () => {
  const score = (answer: string) => scores.code_debug(answer, ['area', 'B']);
  expect(['B.', 'B: area', 'answer is: area', 'The correct option is: B'].map(score)).toEqual([1, 1, 1, 1]);
  expect(['B', 'area', 'answer is: twice', 'C. area'].map(score)).toEqual([0, 0, 0, 0]);
});

test('ROUGE-Lsum: the union over sentences, no word more often than it stands', () => {
  // Lin's example of a union: w1 w2 and w1 w3 w5 are common, so 4 of 5 words.
  const union = rougeLsum('w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5', 'w1 w2 w3 w4 w5');
  expect(union).toBeCloseTo((2 * (4 / 5) * (4 / 10)) / (4 / 5 + 4 / 10));
  expect(rougeLsum('The cat sat.', 'the CAT, sat')).toBe(1);
  expect(rougeLsum('a a a', 'a b c d')).toBeCloseTo((2 * 1) / 7);
  expect(rougeLsum('', 'a')).toBe(0);
});
