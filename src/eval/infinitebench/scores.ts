/**
 * How InfiniteBench scores an answer (Zhang et al., *InfiniteBench: Extending Long Context Evaluation Beyond 100K Tokens*,
 * ACL 2024), each task by its own rule.
 */
import { overlap } from '../scoring.js';
import { rougeLsum } from './rouge.js';

/** @returns 0 to 1. `expected` has at least one string; of a choice its text and then its letter. */
type Score = (answer: string, expected: readonly string[]) => number;

const right = (is: boolean): number => (is ? 1 : 0);
const blank = (text: string, marks: RegExp): string => text.replace(marks, ' ').replace(/ +/g, ' ');
const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');
const best = (score: (expected: string) => number, expected: readonly string[]): number =>
  Math.max(...expected.map(score));

/** The first digits of the answer. */
const digits: Score = (answer, [label]) => right(/\d+/.exec(answer)?.[0] === label);

const MARKS = /[\n:"'.,?!{}]/g;

/** After the first of these prefixes that the answer has; undefined where it has none. */
function after(text: string, prefixes: readonly string[]): string | undefined {
  const prefix = prefixes.find((each) => text.includes(each));
  // One more character: the space behind it.
  return prefix === undefined ? undefined : text.slice(text.indexOf(prefix) + prefix.length + 1);
}

const choice: Score = (answer, expected) => {
  const said = answer.trim();
  const first = said.slice(0, 1);
  if (first === '') return 0;
  if ('ABCD'.includes(first)) return right(expected.includes(first));
  if (expected.includes(said)) return 1;
  const plain = blank(said, /[\n"'.,?!{}]/g);
  const rest = after(plain, ['answer is:', 'answer:', 'answer is', 'option is']);
  if (rest !== undefined) return right(expected.some((each) => rest.startsWith(each)));
  const letter = words(plain).find((word) => 'ABCD'.includes(word));
  return right(letter !== undefined && expected.includes(letter));
};

const faultyFunction: Score = (answer, expected) => {
  const said = answer.trim();
  const letter = expected[1] ?? '';
  if (said.startsWith(`${letter}.`) || said.startsWith(`${letter}:`)) return 1;
  const plain = blank(said.replace(/Option|option/g, ' '), /[\n`'"\-*]/g);
  const rest = after(plain, ['answer is:', 'is:', 'answer:', 'correct option is:']);
  return right(rest !== undefined && expected.some((each) => rest.startsWith(each)));
};

const foundNumber: Score = (answer, [label]) => {
  const found = /\d+\.\d+|\d+/.exec(answer)?.[0];
  return right(found !== undefined && Number(found) === Number(label));
};

const lastNumber: Score = (answer, [label]) => {
  const last = words(answer.replace(/[\n.`'":]/g, ' ')).at(-1) ?? '';
  return right(/^[+-]?\d+$/.test(last) && Number(last) === Number(label));
};

/** The share of the expected values that the answer's numbers begin with. */
const values: Score = (answer, expected) => {
  const said = answer.match(/\d+/g) ?? [];
  const wrong = expected.findIndex((value, i) => Number(said[i]) !== Number(value));
  return (wrong === -1 ? expected.length : wrong) / expected.length;
};

const ASCII_MARKS = /[!-/:-@[-`{-~]/g;
const CHINESE_MARKS =
  /[！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏]/gu;

const english = (text: string): string[] =>
  words(
    text
      .toLowerCase()
      .replace(ASCII_MARKS, '')
      .replace(/\b(a|an|the)\b/g, ' '),
  );
const chinese = (text: string): string[] => [
  ...text.toLowerCase().replace(ASCII_MARKS, '').replace(CHINESE_MARKS, '').replace(/\s/g, ''),
];

export const INFINITEBENCH_SCORES = {
  passkey: digits,
  number_string: digits,
  kv_retrieval: (answer, [label = '']) => right(words(answer.replace(MARKS, ' ')).includes(label)),
  longdialogue_qa_eng: (answer, [label = '']) =>
    right(words(answer.replace(MARKS, ' ').toUpperCase()).includes(label)),
  longbook_choice_eng: choice,
  longbook_qa_eng: (answer, expected) => best((each) => overlap(english(answer), english(each)), expected),
  longbook_qa_chn: (answer, expected) => best((each) => overlap(chinese(answer), chinese(each)), expected),
  longbook_sum_eng: (answer, expected) => best((each) => rougeLsum(answer, each), expected),
  math_find: foundNumber,
  math_calc: values,
  code_run: lastNumber,
  code_debug: faultyFunction,
} satisfies Record<string, Score>;

export type InfiniteBenchTask = keyof typeof INFINITEBENCH_SCORES;
