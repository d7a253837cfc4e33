/** From tasks to an input file, and from a batch's results to scores. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { outcome } from '../contracts/outcome.js';
import { makeDocument } from './ruler/make.js';
import type { Sources } from './ruler/sample.js';
import { TASKS, type TaskName } from './ruler/tasks.js';
import type { Scored } from './report.js';
import { score } from './scoring.js';

export interface RulerPlan {
  tasks: readonly TaskName[];
  lengths: readonly number[];
  /** Documents of each task and length. */
  documents: number;
  seed: number;
}

export interface RulerRequest {
  custom_id: string;
  task: TaskName;
  length: number;
  expected: string[];
}

/** Writes `requests.jsonl` and what is expected; the same plan writes the same bytes, so each method's batch is the same again. */
export async function writeRequests(
  folder: string,
  { tasks, lengths, documents, seed }: RulerPlan,
  sources: Sources,
  count: (text: string) => Promise<number>,
): Promise<{ file: string; requests: RulerRequest[] }> {
  const lines: string[] = [];
  const requests: RulerRequest[] = [];
  for (const task of tasks) {
    for (const length of lengths) {
      for (let index = 0; index < documents; index++) {
        const { text, question, expected } = await makeDocument(
          { seed, task, length, index },
          sources,
          count,
        );
        const custom_id = `${task}-${length}-${index}`;
        lines.push(
          JSON.stringify({ custom_id, document: text, question, max_tokens: TASKS[task].maxTokens }) + '\n',
        );
        requests.push({ custom_id, task, length, expected });
      }
    }
  }
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'requests.jsonl');
  await writeFile(file, lines.join(''));
  await writeFile(join(folder, 'expected.json'), JSON.stringify(requests, undefined, 1) + '\n');
  return { file, requests };
}

/** @param output path of a batch's `output.jsonl`; requests that are not in it have no answer. */
export async function scoreOutput(
  output: string,
  requests: readonly RulerRequest[],
): Promise<Scored['results']> {
  const byId = new Map(requests.map((request) => [request.custom_id, request]));
  const results: Scored['results'] = new Map();
  for (const line of (await readFile(output, 'utf8')).split('\n')) {
    if (line === '') continue;
    const { custom_id, answers, execution } = outcome.parse(JSON.parse(line));
    const request = byId.get(custom_id);
    if (request === undefined) throw new Error(`${output} has ${custom_id}, which was not asked`);
    results.set(custom_id, {
      score: score(TASKS[request.task].measure, answers[0]?.text ?? '', request.expected),
      prefillSeconds: execution?.prefill_seconds ?? null,
    });
  }
  return results;
}
