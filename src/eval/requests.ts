/** From questions with expected answers to input files, and from a batch's results to scores. */
import { createReadStream } from 'node:fs';
import { mkdir, open, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RequestLine } from '../contracts/request.js';
import { outcome } from '../contracts/outcome.js';
import { mean } from './intervals.js';
import { INFINITEBENCH_SCORES, type InfiniteBenchTask } from './infinitebench/scores.js';
import { score, type Measure } from './scoring.js';

/** What is kept of a request to score its answers. */
export interface EvalRequest {
  custom_id: string;
  /** Names a table of the report. Its requests are one batch for each method: l_a and l_p follow a batch's longest document. */
  group: string;
  task: string;
  /** A task of InfiniteBench is measured as it says. */
  measure: Measure | InfiniteBenchTask;
  /** What is expected of each question's answer. */
  expected: string[][];
}

/** With what is asked. */
export interface AskedRequest extends EvalRequest {
  document: RequestLine['document'];
  questions: string[];
  max_tokens: number;
}

export type Asked = Iterable<AskedRequest> | AsyncIterable<AskedRequest>;

/** The same request under one method. A request without an answer scores 0 and has no times. */
export interface Result {
  /** Mean over its questions. */
  score: number;
  prefillSeconds: number | null;
  decodeSeconds: number | null;
}

/** An input file of `submit`. */
export interface RequestGroup {
  name: string;
  file: string;
}

/** Writes `requests-<group>.jsonl` for each group, and `expected.json`, what is needed to score the answers. */
export async function writeRequests(
  folder: string,
  asked: Asked,
): Promise<{ groups: RequestGroup[]; requests: EvalRequest[] }> {
  await mkdir(folder, { recursive: true });
  const requests: EvalRequest[] = [];
  const files = new Map<string, { file: string; handle: FileHandle }>();
  try {
    // One at a time: the documents together need not fit into memory.
    for await (const { document, questions, max_tokens, ...request } of asked) {
      const { custom_id, group } = request;
      let to = files.get(group);
      if (to === undefined) {
        const file = join(folder, `requests-${slug(group)}.jsonl`);
        to = { file, handle: await open(file, 'w') };
        files.set(group, to);
      }
      await to.handle.write(JSON.stringify({ custom_id, document, questions, max_tokens }) + '\n');
      requests.push(request);
    }
  } finally {
    for (const { handle } of files.values()) await handle.close();
  }
  await writeFile(join(folder, 'expected.json'), JSON.stringify(requests, undefined, 1) + '\n');
  return { groups: [...files].map(([name, { file }]) => ({ name, file })), requests };
}

/** A file's name. */
export function slug(text: string): string {
  return text.replace(/[^a-z0-9]+/gi, '-');
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
    const { measure, expected } = request;
    results.set(custom_id, {
      score: mean(expected.map((each, i) => measured(measure, answers[i]?.text ?? '', each))),
      prefillSeconds: execution?.prefill_seconds ?? null,
      decodeSeconds: execution?.decode_seconds ?? null,
    });
  }
  return results;
}

function measured(measure: EvalRequest['measure'], answer: string, expected: readonly string[]): number {
  return measure in INFINITEBENCH_SCORES
    ? INFINITEBENCH_SCORES[measure as InfiniteBenchTask](answer, expected)
    : score(measure as Measure, answer, expected);
}
