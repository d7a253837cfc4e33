/** Checks one parsed line of an input file; pure. */
import {
  MAX_ANSWER_TOKENS_PER_ITEM,
  MAX_QUESTIONS_PER_ITEM,
  requestLine,
  type RequestLine,
} from '../contracts/request.js';
import type { InputProblem } from '../platform/errors.js';
import { hasLoneSurrogate } from '../text/utf8.js';
import { closest } from './closest.js';

/** Questions travel back with their answers in a job's return value, which is capped. */
export const MAX_QUESTION_BYTES_PER_ITEM = 65_536;

const FIELDS = Object.keys(requestLine.shape);
const REQUIRED = ['custom_id', 'document'];

type Problem = Omit<InputProblem, 'line'>;
export type CheckedLine = { request: RequestLine } | { problems: Problem[] };

export function checkLine(value: unknown): CheckedLine {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problems: [{ field: 'line', message: `must be a JSON object, not ${describe(value)}` }] };
  }
  const line = value as Record<string, unknown>;
  const problems = [...unknownFields(line), ...missingFields(line), ...documentProblems(line['document'])];
  const parsed = requestLine.safeParse(line);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const [field] = issue.path;
      // Said better above.
      if (issue.code === 'unrecognized_keys' || field === 'document') continue;
      if (typeof field === 'string' && REQUIRED.includes(field) && !(field in line)) continue;
      problems.push({ field: pathOf(issue.path), message: issue.message });
    }
  }
  problems.push(...surrogateProblems(line, ''));
  if (!parsed.success) {
    if (problems.length === 0) problems.push({ field: 'line', message: parsed.error.message });
    return { problems };
  }
  problems.push(...sizeProblems(parsed.data));
  return problems.length > 0 ? { problems } : { request: parsed.data };
}

/** The request's questions, however it spelt them. */
export function questionsOf(request: RequestLine): string[] {
  return request.questions ?? (request.question === undefined ? [] : [request.question]);
}

function unknownFields(line: Record<string, unknown>): Problem[] {
  return Object.keys(line)
    .filter((field) => !FIELDS.includes(field))
    .map((field) => unknownField(field, '', FIELDS));
}

function unknownField(field: string, parent: string, known: readonly string[]): Problem {
  const meant = closest(field, known);
  const hint = meant === undefined ? `known fields: ${known.join(', ')}` : `did you mean "${meant}"?`;
  return { field: parent + field, message: `unknown field; ${hint}` };
}

function missingFields(line: Record<string, unknown>): Problem[] {
  return REQUIRED.filter((field) => !(field in line)).map((field) => ({ field, message: 'is missing' }));
}

const DOCUMENT_FORMS = 'a text, {"path": "file"} or {"url": "s3://bucket/key"}';

/** By hand, because a union's issues do not say which of the three forms was meant. */
function documentProblems(document: unknown): Problem[] {
  const at = (message: string): Problem[] => [{ field: 'document', message }];
  if (document === undefined) return [];
  if (typeof document === 'string') return document.length > 0 ? [] : at('the text is empty');
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return at(`must be ${DOCUMENT_FORMS}, not ${describe(document)}`);
  }
  const source = document as Record<string, unknown>;
  const unknown = Object.keys(source).filter((field) => field !== 'path' && field !== 'url');
  if (unknown.length > 0) return unknown.map((field) => unknownField(field, 'document.', ['path', 'url']));
  const [name, more] = Object.keys(source);
  if (name === undefined || more !== undefined) return at(`must be ${DOCUMENT_FORMS}: one of them`);
  const found = source[name];
  if (typeof found !== 'string' || found === '') {
    return [
      { field: `document.${name}`, message: `must be a text that is not empty, not ${describe(found)}` },
    ];
  }
  if (name === 'url' && !/^s3:\/\/[^/]+\/.+/.test(found)) {
    return [{ field: 'document.url', message: `must be s3://bucket/key, not ${describe(found)}` }];
  }
  if (name === 'path' && found.includes('\0')) {
    return [{ field: 'document.path', message: 'must not contain a NUL character' }];
  }
  return [];
}

/** What one work item must hold: a request is never split. */
function sizeProblems(request: RequestLine): Problem[] {
  const problems: Problem[] = [];
  const questions = questionsOf(request);
  const answerTokens = questions.length * request.max_tokens;
  if (answerTokens > MAX_ANSWER_TOKENS_PER_ITEM) {
    problems.push({
      field: 'max_tokens',
      message: `${questions.length} questions x ${request.max_tokens} tokens = ${answerTokens}, above the ${MAX_ANSWER_TOKENS_PER_ITEM} that one request may take; lower max_tokens or split the request`,
    });
  }
  const bytes = questionBytes(questions);
  if (bytes > MAX_QUESTION_BYTES_PER_ITEM) {
    problems.push({
      field: request.questions === undefined ? 'question' : 'questions',
      message: `${bytes} bytes of questions, above the ${MAX_QUESTION_BYTES_PER_ITEM} that one request may have (and ${MAX_QUESTIONS_PER_ITEM} questions); split the request`,
    });
  }
  return problems;
}

/** As the questions count in a job's return value: JSON, UTF-8. */
export function questionBytes(questions: readonly string[]): number {
  return questions.reduce((sum, question) => sum + Buffer.byteLength(JSON.stringify(question)), 0);
}

function surrogateProblems(value: unknown, path: string): Problem[] {
  if (typeof value === 'string') {
    if (!hasLoneSurrogate(value)) return [];
    return [
      { field: path, message: 'contains half a surrogate pair (\\ud800 to \\udfff), which is not text' },
    ];
  }
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const name = Array.isArray(value) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`;
    return surrogateProblems(inner, name);
  });
}

function pathOf(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return text.replace(/^\./, '') || 'line';
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
