/**
 * RULER's 13 tasks with its settings (Hsieh et al., *RULER: What's the Real Context Size of Your
 * Long-Context Language Models?*, COLM 2024), checked against its repository. What differs: a length is the
 * document's alone, without question and answer; the prose and the vocabulary are of a book in the public domain, of
 * which a document takes whole sentences from anywhere; that prose also follows the paragraphs of a set of questions
 * that has no more of them; the prompt is the model's own, without introduction, start of an answer, or the worked
 * example of `vt` and `cwe`. Needles and assignments are worded as the demo model was trained to read them.
 */
import type { Measure } from '../scoring.js';
import { commonWords, frequentWords } from './counted-words.js';
import { needles, type NeedleSettings } from './needles.js';
import { questions } from './questions.js';
import type { Generate } from './sample.js';
import { variables } from './variables.js';

export interface Task {
  generate: Generate;
  measure: Measure;
  /** The most tokens that an answer may have. */
  maxTokens: number;
}

const base: NeedleSettings = {
  haystack: 'essay',
  key: 'words',
  value: 'numbers',
  keys: 1,
  values: 1,
  asked: 1,
};
const needle = (settings: Partial<NeedleSettings>): Task => ({
  generate: needles({ ...base, ...settings }),
  measure: 'all',
  maxTokens: 128,
});

export const TASKS = {
  niah_single_1: needle({ haystack: 'noise' }),
  niah_single_2: needle({}),
  niah_single_3: needle({ value: 'uuids' }),
  niah_multikey_1: needle({ keys: 4 }),
  niah_multikey_2: needle({ haystack: 'needles' }),
  niah_multikey_3: needle({ haystack: 'needles', key: 'uuids', value: 'uuids' }),
  niah_multivalue: needle({ values: 4 }),
  niah_multiquery: needle({ keys: 4, asked: 4 }),
  vt: { generate: variables({ hops: 4 }), measure: 'all', maxTokens: 30 },
  cwe: {
    generate: commonWords({
      common: 10,
      times: { common: 30, other: 3 },
      short: { common: 6, other: 1 },
    }),
    measure: 'all',
    maxTokens: 120,
  },
  fwe: { generate: frequentWords({ asked: 3 }), measure: 'all', maxTokens: 50 },
  qa_1: { generate: questions('squad'), measure: 'substring', maxTokens: 32 },
  qa_2: { generate: questions('hotpot'), measure: 'substring', maxTokens: 32 },
} satisfies Record<string, Task>;

export type TaskName = keyof typeof TASKS;
export const TASK_NAMES = Object.keys(TASKS) as TaskName[];
