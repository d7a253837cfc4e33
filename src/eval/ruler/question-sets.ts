/** Question sets from files in SQuAD's and HotpotQA's layouts. */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { LonghaulError } from '../../platform/errors.js';
import type { QuestionSet } from './sample.js';

const squad = z.object({
  data: z.array(
    z.object({
      paragraphs: z.array(
        z.object({
          context: z.string(),
          qas: z.array(
            z.object({
              question: z.string(),
              answers: z.array(z.object({ text: z.string() })),
              is_impossible: z.boolean().default(false),
            }),
          ),
        }),
      ),
    }),
  ),
});

const hotpot = z.array(
  z.object({
    question: z.string(),
    answer: z.string().min(1),
    /** Title and sentences. */
    context: z.array(z.tuple([z.string(), z.array(z.string())])),
  }),
);

/** Questions without an answer in their paragraph are left out. @throws LonghaulError `EVAL_FILE` */
export async function readSquad(file: string): Promise<QuestionSet> {
  const { data } = await read(file, squad, "SQuAD's");
  const paragraphs = new Paragraphs();
  const items = data.flatMap((article) => {
    const all = article.paragraphs.map(({ context }) => paragraphs.index(context));
    return article.paragraphs.flatMap(({ context, qas }) => {
      const gold = [paragraphs.index(context)];
      const near = [...new Set(all)].filter((index) => !gold.includes(index));
      return qas
        .filter(({ answers, is_impossible }) => !is_impossible && answers.length > 0)
        .map(({ question, answers }) => ({
          question,
          answers: [...new Set(answers.map(({ text }) => text))],
          gold,
          near,
        }));
    });
  });
  return filled(file, { items, paragraphs: paragraphs.list });
}

/** All paragraphs that come with a question are there, its supporting facts among them. @throws LonghaulError `EVAL_FILE` */
export async function readHotpot(file: string): Promise<QuestionSet> {
  const paragraphs = new Paragraphs();
  const items = (await read(file, hotpot, "HotpotQA's")).map(({ question, answer, context }) => ({
    question,
    answers: [answer],
    gold: context.map(([title, sentences]) => paragraphs.index(`${title}\n${sentences.join('')}`)),
  }));
  return filled(file, { items, paragraphs: paragraphs.list });
}

/** Equal paragraphs are one: otherwise a distractor could hold the answer's own paragraph. */
class Paragraphs {
  private readonly known = new Map<string, number>();

  index(text: string): number {
    const found = this.known.get(text);
    if (found !== undefined) return found;
    this.known.set(text, this.known.size);
    return this.known.size - 1;
  }

  get list(): string[] {
    return [...this.known.keys()];
  }
}

async function read<T>(file: string, schema: z.ZodType<T>, layout: string): Promise<T> {
  const fail = (why: string, cause?: unknown) =>
    new LonghaulError('EVAL_FILE', `${file} is not in ${layout} layout: ${why}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw fail(cause instanceof Error ? cause.message : String(cause), cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw fail(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
}

function filled(file: string, set: QuestionSet): QuestionSet {
  if (set.items.length > 0) return set;
  throw new LonghaulError('EVAL_FILE', `${file} has no question with an answer; give another file`);
}
