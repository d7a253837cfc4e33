/** InfiniteBench's tasks: what is asked of a line's context, in our own words, and the most tokens of an answer. */
import type { InfiniteBenchTask } from './scores.js';

/** A line of one of its files. */
export interface Line {
  context: string;
  input: string;
  options: string[];
}

interface Task {
  /** @returns undefined where the line lacks what the question needs. */
  question: (line: Line) => string | undefined;
  maxTokens: number;
}

const asIs = ({ input }: Line): string => input;
const BY_LETTER = 'Reply with the letter of the right choice alone.';

function choices({ options }: Line): string | undefined {
  if (options.length !== 4) return undefined;
  return options.map((option, i) => `${'ABCD'[i]}. ${option}`).join('\n');
}

/**
 * Its limits of 3 to 12 tokens belong to prompts that begin the answer. Ours do not, so that these tasks have 40, as its
 * others; `math_calc` has what one request may have instead of 30,000.
 */
export const INFINITEBENCH_TASKS: Record<InfiniteBenchTask, Task> = {
  passkey: { question: asIs, maxTokens: 40 },
  number_string: { question: asIs, maxTokens: 40 },
  kv_retrieval: {
    question: ({ input }) => `Which value does the JSON object give to this key?\n${input}`,
    maxTokens: 50,
  },
  longbook_sum_eng: { question: () => 'Write a summary of this book.', maxTokens: 1200 },
  longbook_choice_eng: {
    question: (line) => {
      const list = choices(line);
      return list === undefined ? undefined : `${line.input}\n${list}\n${BY_LETTER}`;
    },
    maxTokens: 40,
  },
  longbook_qa_eng: { question: ({ input }) => `${input}\nReply in a few words.`, maxTokens: 40 },
  longbook_qa_chn: { question: ({ input }) => `${input}\n请用几个字回答。`, maxTokens: 40 },
  longdialogue_qa_eng: {
    question: () =>
      'One name in this script was replaced by $$MASK$$. Which name stood there? Reply with the name alone, as the script writes it before a colon.',
    maxTokens: 40,
  },
  math_find: { question: asIs, maxTokens: 40 },
  math_calc: {
    question: () => 'Work this expression out from left to right, and list the value after each operation.',
    maxTokens: 4096,
  },
  code_run: {
    question: ({ input }) => {
      const call = /func_\d+\(-?\d+\)/.exec(input)?.[0];
      return call === undefined
        ? undefined
        : `Which number does ${call} return? Reply with the number alone.`;
    },
    maxTokens: 40,
  },
  code_debug: {
    question: (line) => {
      const list = choices(line);
      return list === undefined
        ? undefined
        : `One of these functions was given a fault on purpose. Which one?\n${list}\n${BY_LETTER}`;
    },
    maxTokens: 40,
  },
};

export const INFINITEBENCH_NAMES = Object.keys(INFINITEBENCH_TASKS) as InfiniteBenchTask[];
