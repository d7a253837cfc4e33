import { createHash } from 'node:crypto';
import { Random } from '../../platform/random.js';
import { fit } from './fit.js';
import type { Sources } from './sample.js';
import { TASKS, type TaskName } from './tasks.js';

export interface MadeDocument {
  task: TaskName;
  length: number;
  /** Of the document, at most `length`; one more unit of the task's filler would exceed it. */
  tokens: number;
  text: string;
  question: string;
  expected: string[];
}

/**
 * Document `index` of a task: a pure function of seed, task, length, sources and tokenizer.
 * @param count tokens of a document, by the loaded model's tokenizer.
 * @throws LonghaulError `EVAL_LENGTH` when the task does not fit into `length`.
 */
export async function makeDocument(
  { seed, task, length, index }: { seed: number; task: TaskName; length: number; index: number },
  sources: Sources,
  count: (text: string) => Promise<number>,
): Promise<MadeDocument> {
  const random = new Random(seedOf(`${seed}/${task}/${length}/${index}`));
  const sample = TASKS[task].generate(random, sources, length);
  const { text, tokens } = await fit(sample, length, count);
  return { task, length, tokens, text, question: sample.question, expected: sample.expected };
}

/** Of a document by its name. */
export function seedOf(name: string): number {
  return createHash('sha256').update(name).digest().readInt32LE();
}
