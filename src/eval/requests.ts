/** From questions with expected answers to an input file, and from a batch's results to scores. */
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RequestLine } from '../contracts/request.js';
import { outcome } from '../contracts/outcome.js';
import { makeDocument } from './ruler/make.js';
import type { Sources } from './ruler/sample.js';
import { TASKS, type TaskName } from './ruler/tasks.js';
import { score, type Measure } from './scoring.js';

export interface RulerPlan {
  tasks: readonly TaskName[];
  lengths: readonly number[];
  /** Documents of each task and length. */
  documents: number;
  seed: number;
}

/** What is kept of a request to score its answer. */
export interface EvalRequest {
  custom_id: string;
  task: string;
  /** Tokens, where documents are made to a length. */
  length: number | null;
  measure: Measure;
  expected: string[];
}

/** With what is asked. */
export interface AskedRequest extends EvalRequest {
  document: RequestLine['document'];
  question: string;
  max_tokens: number;
}

/** The same request under one method. A request without an answer scores 0 and has no prefill time. */
export interface Result {
  score: number;
  prefillSeconds: number | null;
}

/** The same plan gives the same requests, so that each method's batch is the same again. */
export async function* rulerRequests(
  { tasks, lengths, documents, seed }: RulerPlan,
  sources: Sources,
  count: (text: string) => Promise<number>,
): AsyncGenerator<AskedRequest> {
  for (const task of tasks) {
    for (const length of lengths) {
      for (let index = 0; index < documents; index++) {
        const made = await makeDocument({ seed, task, length, index }, sources, count);
        yield {
          custom_id: `${task}-${length}-${index}`,
          task,
          length,
          measure: TASKS[task].measure,
          expected: made.expected,
          document: made.text,
          question: made.question,
          max_tokens: TASKS[task].maxTokens,
        };
      }
    }
  }
}

/** Writes `requests.jsonl` and `expected.json`, what is needed to score its answers. */
export async function writeRequests(
  folder: string,
  asked: Iterable<AskedRequest> | AsyncIterable<AskedRequest>,
): Promise<{ file: string; requests: EvalRequest[] }> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'requests.jsonl');
  const requests: EvalRequest[] = [];
  await writeFile(file, lines(asked, requests));
  await writeFile(join(folder, 'expected.json'), JSON.stringify(requests, undefined, 1) + '\n');
  return { file, requests };
}

/** One at a time: the documents together need not fit into memory. */
async function* lines(
  asked: Iterable<AskedRequest> | AsyncIterable<AskedRequest>,
  requests: EvalRequest[],
): AsyncGenerator<string> {
  for await (const { custom_id, document, question, max_tokens, task, length, measure, expected } of asked) {
    requests.push({ custom_id, task, length, measure, expected });
    yield JSON.stringify({ custom_id, document, question, max_tokens }) + '\n';
  }
}

/** @param output path of a batch's `output.jsonl`; requests that are not in it have no answer. */
export async function scoreOutput(
  output: string,
  requests: readonly EvalRequest[],
): Promise<Map<string, Result>> {
  const byId = new Map(requests.map((request) => [request.custom_id, request]));
  const results = new Map<string, Result>();
  for await (const line of createInterface({ input: createReadStream(output), crlfDelay: Infinity })) {
    const { custom_id, answers, execution } = outcome.parse(JSON.parse(line));
    const request = byId.get(custom_id);
    if (request === undefined) throw new Error(`${output} has ${custom_id}, which was not asked`);
    results.set(custom_id, {
      score: score(request.measure, answers[0]?.text ?? '', request.expected),
      prefillSeconds: execution?.prefill_seconds ?? null,
    });
  }
  return results;
}
