import type { AskedRequest } from '../requests.js';
import { makeDocument } from './make.js';
import type { Sources } from './sample.js';
import { TASKS, type TaskName } from './tasks.js';

export interface RulerPlan {
  tasks: readonly TaskName[];
  /** In tokens, and how many documents of each task. */
  lengths: readonly { length: number; documents: number }[];
  seed: number;
}

/**
 * The same plan gives the same requests, so that each method's batch is the same again.
 * @param count tokens of a document, by the loaded model's tokenizer.
 */
export async function* rulerRequests(
  { tasks, lengths, seed }: RulerPlan,
  sources: Sources,
  count: (text: string) => Promise<number>,
): AsyncGenerator<AskedRequest> {
  for (const task of tasks) {
    for (const { length, documents } of lengths) {
      for (let index = 0; index < documents; index++) {
        const made = await makeDocument({ seed, task, length, index }, sources, count);
        yield {
          custom_id: `${task}-${length}-${index}`,
          group: `${length} tokens`,
          task,
          measure: TASKS[task].measure,
          expected: [made.expected],
          document: made.text,
          questions: [made.question],
          max_tokens: TASKS[task].maxTokens,
        };
      }
    }
  }
}
