import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeDocument } from '../../src/eval/ruler/make.js';
import { fit } from '../../src/eval/ruler/fit.js';
import { readHotpot, readSquad } from '../../src/eval/ruler/question-sets.js';
import type { Sources } from '../../src/eval/ruler/sample.js';
import { readSources } from '../../src/eval/ruler/sources.js';
import { TASK_NAMES, TASKS } from '../../src/eval/ruler/tasks.js';
import { score } from '../../src/eval/scoring.js';
import { questionRequests } from '../../src/eval/several-questions.js';
import { Random } from '../../src/platform/random.js';
import { loadTokenizer, type Tokenizer } from '../../src/text/tokenizer.js';

let tokenizer: Tokenizer;
let sources: Sources;
beforeAll(async () => {
  [tokenizer, sources] = await Promise.all([
    loadTokenizer('models/demo'),
    readSources('demo/texts/moby-dick.txt'),
  ]);
});
afterAll(() => tokenizer.close());

const count = async (text: string) => (await tokenizer.encodeDocument(text)).length;
const make = (task: (typeof TASK_NAMES)[number], length: number, index = 0, seed = 1) =>
  makeDocument({ seed, task, length, index }, sources, count);

describe.each(TASK_NAMES)('%s', (task) => {
  test('fills the length for the loaded tokenizer, to within one unit of filler', async () => {
    const { generate } = TASKS[task];
    for (const index of [0, 1]) {
      const made = await make(task, 4096, index);
      expect(await count(made.text)).toBe(made.tokens);
      expect(made.tokens).toBeLessThanOrEqual(4096);
      // The longest unit is a sentence or a paragraph of the essay.
      expect(made.tokens).toBeGreaterThan(4096 - 400);
      expect(score(TASKS[task].measure, made.text, made.expected)).toBe(1);
    }
    const { build } = generate(new Random(3), sources, 4000);
    const best = await fit({ build }, 4000, count);
    let units = 0;
    while (build(units) !== best.text) units++;
    expect(await count(build(units + 1))).toBeGreaterThan(4000);
  });

  test('is the same for the same seed, and another for another index or seed', async () => {
    const first = await make(task, 4096);
    expect(await make(task, 4096)).toEqual(first);
    expect((await make(task, 4096, 1)).text).not.toBe(first.text);
    expect((await make(task, 4096, 0, 2)).text).not.toBe(first.text);
  });
});

test('RULER settings: so many needles, of which so many are asked for', async () => {
  const needles = (text: string) => text.match(/special magic (numbers|uuids) for/g)?.length;
  const four = await make('niah_multikey_1', 2048);
  expect([needles(four.text), four.expected.length]).toEqual([4, 1]);
  const values = await make('niah_multivalue', 2048);
  expect([needles(values.text), values.expected.length]).toEqual([4, 4]);
  const queries = await make('niah_multiquery', 2048);
  expect([needles(queries.text), queries.expected.length]).toEqual([4, 4]);
  expect(needles((await make('niah_multikey_2', 2048)).text)).toBeGreaterThan(20);
  expect((await make('vt', 2048)).expected).toHaveLength(5);
});

test('RULER settings: how an answer is measured, and how long it may be', () => {
  const of = (task: string) => (task.startsWith('niah') ? 'niah' : task.startsWith('qa') ? 'qa' : task);
  const settings = Object.fromEntries(
    TASK_NAMES.map((task) => [of(task), [TASKS[task].measure, TASKS[task].maxTokens]]),
  );
  expect(settings).toEqual({
    niah: ['all', 128],
    vt: ['all', 30],
    cwe: ['all', 120],
    fwe: ['all', 50],
    qa: ['substring', 32],
  });
});

test('cwe and fwe ask for the words that the list holds most often', async () => {
  for (const [task, skip, length] of [
    ['cwe', 0, 4096],
    ['cwe', 0, 2048],
    ['fwe', 1, 4096],
  ] as const) {
    const { text, expected } = await make(task, length);
    const counts = new Map<string, number>();
    for (const word of text.replace(/\d+\. /g, '').split(' ')) counts.set(word, (counts.get(word) ?? 0) + 1);
    const ranked = [...counts].sort((a, b) => b[1] - a[1]);
    const top = ranked.slice(skip, skip + expected.length);
    expect(top.map(([word]) => word).sort()).toEqual([...expected].sort());
    expect(top.at(-1)?.[1]).toBeGreaterThan(ranked[skip + expected.length]?.[1] ?? Infinity);
    // RULER's frequencies, which are others below 4096 tokens.
    if (task === 'cwe') expect([top[0]?.[1], ranked[10]?.[1]]).toEqual(length < 4096 ? [6, 1] : [30, 3]);
  }
});

test('a length that the task cannot have is refused with the one that it needs', async () => {
  await expect(make('cwe', 256)).rejects.toMatchObject({ code: 'EVAL_LENGTH' });
});

describe('question sets from files', () => {
  let folder: string;
  beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'eval-'))));
  afterAll(() => rm(folder, { recursive: true }));
  const file = async (value: unknown) => {
    const path = join(folder, 'set.json');
    await writeFile(path, JSON.stringify(value));
    return path;
  };

  test("SQuAD's layout, without questions that have no answer", async () => {
    const qas = [
      { id: '1', question: 'Who?', answers: [{ text: 'Ann' }, { text: 'Ann' }], is_impossible: false },
      { id: '2', question: 'Why?', answers: [], is_impossible: true },
    ];
    const article = [
      { context: 'Ann did.', qas },
      { context: 'Others did not.', qas: [] },
    ];
    const path = await file({ data: [{ title: 'T', paragraphs: article }] });
    expect(await readSquad(path)).toEqual({
      paragraphs: ['Ann did.', 'Others did not.'],
      items: [{ question: 'Who?', answers: ['Ann'], gold: [0], near: [1] }],
    });
  });

  test("HotpotQA's layout: all paragraphs of a question come with it", async () => {
    const context = [
      ['A', ['a1.', ' a2.']],
      ['B', ['b1.']],
      ['C', ['c1.']],
    ];
    const facts = [
      ['A', 1],
      ['C', 0],
    ];
    const path = await file([{ _id: 'x', question: 'Q?', answer: 'yes', context, supporting_facts: facts }]);
    expect(await readHotpot(path)).toEqual({
      paragraphs: ['A\na1. a2.', 'B\nb1.', 'C\nc1.'],
      items: [{ question: 'Q?', answers: ['yes'], gold: [0, 1, 2] }],
    });
  });

  test('another layout is refused, naming file and field', async () => {
    const path = await file({ data: [{ paragraphs: [{ context: 1 }] }] });
    await expect(readSquad(path)).rejects.toThrow(/set\.json is not in SQuAD's layout: data\.0/);
  });
});

test('RULER settings: words of fwe are one for each 50 tokens, and their shares those of zeta(2)', async () => {
  const { text } = await make('fwe', 8192);
  const words = text.split(' ');
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  expect(counts.size).toBeLessThanOrEqual(8192 / 50);
  const [first = 0, second = 0, third = 0] = [...counts.values()].sort((a, b) => b - a);
  expect(first / second).toBeCloseTo(4, 1);
  expect(first / third).toBeCloseTo(9, 0);
});

test('several questions: the same documents for each count, and each question with its own numbers', async () => {
  const plan = { counts: [1, 4], values: 2, lengths: [{ length: 1024, documents: 2 }], seed: 1 };
  const requests = [];
  for await (const request of questionRequests(plan, sources, count)) requests.push(request);
  expect(requests.map(({ group }) => group)).toEqual([
    '1024 tokens, 1 question',
    '1024 tokens, 4 questions',
    '1024 tokens, 1 question',
    '1024 tokens, 4 questions',
  ]);
  const [one, four, other] = requests;
  expect(four?.document).toBe(one?.document);
  expect(other?.document).not.toBe(one?.document);
  expect(four?.questions[0]).toBe(one?.questions[0]);
  expect(new Set(four?.questions).size).toBe(4);
  for (const [i, question] of (four?.questions ?? []).entries()) {
    const key = /numbers for (\S+) mentioned/.exec(question)?.[1] ?? '';
    const stated = (four?.document as string).match(new RegExp(`numbers for ${key} is: \\d+`, 'g')) ?? [];
    expect(stated.map((text) => text.split(': ')[1]).sort()).toEqual([...(four?.expected[i] ?? [])].sort());
    expect(four?.expected[i]).toHaveLength(2);
  }
});
