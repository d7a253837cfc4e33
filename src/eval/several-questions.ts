/** One document and 1 to 40 questions on it: which of them should its anchor carry? */
import { Random } from '../platform/random.js';
import { fit } from './ruler/fit.js';
import { seedOf } from './ruler/make.js';
import { ask, DEPTHS, hide, type NeedleSettings } from './ruler/needles.js';
import type { Sources } from './ruler/sample.js';
import type { AskedRequest } from './requests.js';

export interface QuestionsPlan {
  /** How many questions at once; the documents are the same for each. */
  counts: readonly number[];
  /** Of each key: a question asks for all of them. */
  values: number;
  /** In tokens, and how many documents. */
  lengths: readonly { length: number; documents: number }[];
  seed: number;
}

/** At most so many values in a document: as many needles find a place of their own. */
export const MOST_VALUES = DEPTHS;

/** @param count tokens of a document, by the loaded model's tokenizer. */
export async function* questionRequests(
  { counts, values, lengths, seed }: QuestionsPlan,
  sources: Sources,
  count: (text: string) => Promise<number>,
): AsyncGenerator<AskedRequest> {
  const keys = Math.max(...counts);
  const settings: NeedleSettings = {
    haystack: 'essay',
    key: 'words',
    value: 'numbers',
    keys,
    values,
    asked: 1,
  };
  for (const { length, documents } of lengths) {
    for (let index = 0; index < documents; index++) {
      const { hidden, build } = hide(
        settings,
        new Random(seedOf(`${seed}/questions/${keys}x${values}/${length}/${index}`)),
        sources,
      );
      const { text } = await fit({ build }, length, count);
      for (const questions of counts) {
        const asked = hidden.slice(0, questions);
        yield {
          custom_id: `${questions}-questions-${length}-${index}`,
          group: `${length} tokens, ${questions} question${questions === 1 ? '' : 's'}`,
          task: 'questions',
          measure: 'all',
          expected: asked.map((each) => each.values),
          document: text,
          questions: asked.map((each) => ask(settings, [each])),
          max_tokens: 32 * values,
        };
      }
    }
  }
}
