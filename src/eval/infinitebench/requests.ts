/** InfiniteBench's files, `<task>.jsonl` in a folder of the person's, as requests. */
import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { InputError, LonghaulError } from '../../platform/errors.js';
import type { AskedRequest } from '../requests.js';
import type { InfiniteBenchTask } from './scores.js';
import { INFINITEBENCH_NAMES, INFINITEBENCH_TASKS } from './tasks.js';

export interface InfiniteBenchPlan {
  folder: string;
  /** Default: those that the folder has. */
  tasks?: readonly InfiniteBenchTask[];
  /** The first so many lines of each task; default: all. */
  documents?: number;
  /** Longer documents lose their middle; default: no bound. */
  tokens?: number;
}

const value = z.union([z.string(), z.number()]).transform(String);
const answers = z
  .union([value, z.array(z.union([value, z.array(value)]))])
  .transform((found) => [found].flat(2))
  .pipe(z.array(z.string()).min(1));
const line = z.object({
  context: z.string().min(1),
  input: z.string().default(''),
  answer: answers,
  options: z.array(value).default([]),
});

/**
 * @param count tokens of a document, by the loaded model's tokenizer.
 * @throws LonghaulError `EVAL_FILE` for a folder without such files; InputError for a line that is none of its task.
 */
export async function* infiniteBenchRequests(
  { folder, tasks, documents = Infinity, tokens = Infinity }: InfiniteBenchPlan,
  count: (text: string) => Promise<number>,
): AsyncGenerator<AskedRequest> {
  for (const task of tasks ?? presentTasks(folder)) {
    const file = pathOf(folder, task);
    if (!existsSync(file)) {
      throw new LonghaulError('EVAL_FILE', `${file} is not there; leave ${task} out, or fetch it`);
    }
    const { question, maxTokens } = INFINITEBENCH_TASKS[task];
    let at = 0;
    let taken = 0;
    for await (const json of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
      at++;
      if (json.trim() === '') continue;
      if (taken++ >= documents) break;
      const refuse = (field: string, message: string) => new InputError(file, [{ line: at, field, message }]);
      const parsed = line.safeParse(parse(json, refuse));
      if (!parsed.success) {
        const [issue] = parsed.error.issues;
        throw refuse(issue?.path.join('.') ?? 'line', issue?.message ?? '');
      }
      const { answer, ...rest } = parsed.data;
      const asked = question(rest);
      if (asked === undefined || asked === '') {
        throw refuse(rest.options.length === 0 ? 'input' : 'options', `has no question of ${task}`);
      }
      const expected = labels(answer, rest.options);
      if (expected === undefined) throw refuse('answer', `'${answer.join()}' is none of the options`);
      yield {
        custom_id: `${task}-${at}`,
        group: task,
        task,
        measure: task,
        expected: [expected],
        document: await shortened(rest.context, tokens, count),
        questions: [asked],
        max_tokens: maxTokens,
      };
    }
  }
}

function pathOf(folder: string, task: InfiniteBenchTask): string {
  return join(folder, `${task}.jsonl`);
}

function presentTasks(folder: string): InfiniteBenchTask[] {
  const found = INFINITEBENCH_NAMES.filter((task) => existsSync(pathOf(folder, task)));
  if (found.length > 0) return found;
  throw new LonghaulError(
    'EVAL_FILE',
    `${folder} has none of InfiniteBench's files (${INFINITEBENCH_NAMES[0]}.jsonl, ...); give the folder that has them`,
  );
}

function parse(json: string, refuse: (field: string, message: string) => InputError): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw refuse('line', `is not JSON: ${(error as Error).message}`);
  }
}

/** Of a choice, its text and its letter; undefined where it is no option. */
function labels(answer: string[], options: readonly string[]): string[] | undefined {
  if (options.length === 0) return answer;
  const [text = '', letter] = answer;
  if (letter !== undefined && /^[A-D]$/.test(letter)) return [text, letter];
  const at = options.indexOf(text);
  return at === -1 ? undefined : [text, 'ABCD'[at] ?? ''];
}

/** Its first and its last half, together at most so many tokens and nearly as many. */
async function shortened(
  text: string,
  tokens: number,
  count: (text: string) => Promise<number>,
): Promise<string> {
  let kept = text;
  for (let found = await count(kept); found > tokens; found = await count(kept)) {
    const half = Math.floor(((kept.length / 2) * tokens * 0.995) / found);
    kept = text.slice(0, half) + text.slice(text.length - half);
  }
  return kept;
}
