/** The person's own questions with what is expected, from JSON lines. */
import { createReadStream } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { requestLine } from '../contracts/request.js';
import { InputError, type InputProblem } from '../platform/errors.js';
import type { AskedRequest } from './requests.js';
import { MEASURES, type Measure } from './scoring.js';

const text = z.string().min(1);

/** A line of `submit` with one question, and what is expected of its answer. */
const ownLine = z.strictObject({
  custom_id: requestLine.shape.custom_id,
  document: requestLine.shape.document,
  max_tokens: requestLine.shape.max_tokens,
  question: text,
  /** At least one; a string is a list of one. */
  expected: z.union([text, z.array(text).min(1)]),
  measure: z.enum(MEASURES).optional(),
  /** What the report calls the row of this line. */
  task: text.max(64).default('all'),
});

const LISTED = 100;

/**
 * @param measure of lines that name none.
 * @throws InputError with line and field of everything that is wrong; also for an empty file.
 */
export async function readOwnFile(file: string, measure: Measure): Promise<AskedRequest[]> {
  const requests: AskedRequest[] = [];
  const problems: InputProblem[] = [];
  const lineOf = new Map<string, number>();
  let line = 0;
  for await (const json of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    line++;
    if (json.trim() === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(json);
    } catch (error) {
      problems.push({ line, field: 'line', message: `is not JSON: ${(error as Error).message}` });
      continue;
    }
    const parsed = ownLine.safeParse(value);
    if (!parsed.success) {
      for (const { path, message } of parsed.error.issues) {
        problems.push({ line, field: path.join('.') || 'line', message });
      }
      continue;
    }
    const { expected, task, question, ...request } = parsed.data;
    const first = lineOf.get(request.custom_id);
    if (first !== undefined) {
      problems.push({ line, field: 'custom_id', message: `'${request.custom_id}' is also on line ${first}` });
    }
    lineOf.set(request.custom_id, line);
    requests.push({
      ...request,
      document: beside(file, request.document),
      questions: [question],
      group: 'all requests',
      task,
      measure: request.measure ?? measure,
      expected: [[expected].flat()],
    });
  }
  if (requests.length === 0 && problems.length === 0) {
    problems.push({ line: 0, field: 'file', message: 'has no line; give one JSON object a line' });
  }
  if (problems.length > 0) throw new InputError(file, problems.slice(0, LISTED), problems.length);
  return requests;
}

/** Paths are relative to the person's file, and the requests are written elsewhere. */
function beside(file: string, document: AskedRequest['document']): AskedRequest['document'] {
  if (typeof document === 'string' || !('path' in document)) return document;
  return { ...document, path: resolve(dirname(file), document.path) };
}
