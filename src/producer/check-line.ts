/** Checks one parsed line of an input file; pure. */
import {
  DOCUMENT_URL,
  FORMATS,
  MAX_ANSWER_TOKENS_PER_ITEM,
  MAX_QUESTIONS_PER_ITEM,
  requestLine,
  type RequestLine,
} from '../contracts/request.js';
import type { InputProblem } from '../platform/errors.js';
import type { ChatMessage } from '../text/chat-template.js';
import { hasLoneSurrogate } from '../text/utf8.js';
import { closest } from './closest.js';

/** Questions travel back with their answers in a job's return value, which is capped. */
export const MAX_QUESTION_BYTES_PER_ITEM = 65_536;

const FIELDS = Object.keys(requestLine.shape);
const REQUIRED = ['custom_id', 'document'];

export type Problem = Omit<InputProblem, 'line'>;

/** A line of either style. */
export interface CheckedRequest {
  custom_id: string;
  document: RequestLine['document'];
  questions: string[];
  max_tokens: number;
  temperature: number;
  seed: number;
  metadata: Record<string, string> | null;
  /** The model that an OpenAI line names. */
  chat_model?: string;
  /** An OpenAI line's messages before its question; `document` is their texts joined. */
  messages?: ChatMessage[];
}
export type CheckedLine = { request: CheckedRequest } | { problems: Problem[] };

export function checkLine(value: unknown): CheckedLine {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problems: [{ field: 'line', message: `must be a JSON object, not ${describe(value)}` }] };
  }
  const line = value as Record<string, unknown>;
  const problems = [
    ...unknownFields(line),
    ...missingFields(line, REQUIRED),
    ...documentProblems(line['document']),
  ];
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
  const { question, questions = question === undefined ? [] : [question], ...rest } = parsed.data;
  const request = { ...rest, questions, metadata: rest.metadata ?? null };
  const names = { max_tokens: 'max_tokens', questions: question === undefined ? 'questions' : 'question' };
  problems.push(...sizeProblems(request, names));
  return problems.length > 0 ? { problems } : { request };
}

function unknownFields(line: Record<string, unknown>): Problem[] {
  return Object.keys(line)
    .filter((field) => !FIELDS.includes(field))
    .map((field) => unknownField(field, '', FIELDS));
}

export function unknownField(field: string, parent: string, known: readonly string[]): Problem {
  const meant = closest(field, known);
  const hint = meant === undefined ? `known fields: ${known.join(', ')}` : `did you mean "${meant}"?`;
  return { field: parent + field, message: `unknown field; ${hint}` };
}

export function missingFields(
  line: Record<string, unknown>,
  required: readonly string[],
  parent = '',
): Problem[] {
  return required
    .filter((field) => !(field in line))
    .map((field) => ({ field: parent + field, message: 'is missing' }));
}

const DOCUMENT_FORMS = 'a text, {"path": "file"}, {"url": "https://..."} or {"url": "s3://bucket/key"}';
const SOURCE_FIELDS = ['path', 'url', 'format'];

/** By hand, because a union's issues do not say which of the three forms was meant. */
function documentProblems(document: unknown): Problem[] {
  const at = (message: string): Problem[] => [{ field: 'document', message }];
  if (document === undefined) return [];
  if (typeof document === 'string') return document.length > 0 ? [] : at('the text is empty');
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    return at(`must be ${DOCUMENT_FORMS}, not ${describe(document)}`);
  }
  const source = document as Record<string, unknown>;
  const unknown = Object.keys(source).filter((field) => !SOURCE_FIELDS.includes(field));
  if (unknown.length > 0) return unknown.map((field) => unknownField(field, 'document.', SOURCE_FIELDS));
  const { format, ...place } = source;
  if (format !== undefined && !FORMATS.some((known) => known === format)) {
    const message = `must be ${FORMATS.join(', ')}, not ${describe(format)}`;
    return [{ field: 'document.format', message }];
  }
  const [name, more] = Object.keys(place);
  if (name === undefined || more !== undefined) return at(`must be ${DOCUMENT_FORMS}: one of them`);
  const found = place[name];
  if (typeof found !== 'string' || found === '') {
    return [
      { field: `document.${name}`, message: `must be a text that is not empty, not ${describe(found)}` },
    ];
  }
  if (name === 'url' && !(DOCUMENT_URL.test(found) && (found.startsWith('s3:') || URL.canParse(found)))) {
    const message = `must be s3://bucket/key or https://..., not ${describe(found)}`;
    return [{ field: 'document.url', message }];
  }
  if (name === 'path' && found.includes('\0')) {
    return [{ field: 'document.path', message: 'must not contain a NUL character' }];
  }
  return [];
}

/** What one work item must hold: a request is never split. `names`: what the line calls the two. */
export function sizeProblems(
  { questions, max_tokens }: Pick<CheckedRequest, 'questions' | 'max_tokens'>,
  names: { max_tokens: string; questions: string },
): Problem[] {
  const problems: Problem[] = [];
  const answerTokens = questions.length * max_tokens;
  if (answerTokens > MAX_ANSWER_TOKENS_PER_ITEM) {
    problems.push({
      field: names.max_tokens,
      message: `${questions.length} questions x ${max_tokens} tokens = ${answerTokens}, above the ${MAX_ANSWER_TOKENS_PER_ITEM} that one request may take; lower max_tokens or split the request`,
    });
  }
  const bytes = questionBytes(questions);
  if (bytes > MAX_QUESTION_BYTES_PER_ITEM) {
    problems.push({
      field: names.questions,
      message: `${bytes} bytes of questions, above the ${MAX_QUESTION_BYTES_PER_ITEM} that one request may have (and ${MAX_QUESTIONS_PER_ITEM} questions); split the request`,
    });
  }
  return problems;
}

/** As the questions count in a job's return value: JSON, UTF-8. */
export function questionBytes(questions: readonly string[]): number {
  return questions.reduce((sum, question) => sum + Buffer.byteLength(JSON.stringify(question)), 0);
}

export function surrogateProblems(value: unknown, path: string): Problem[] {
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

export function pathOf(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return text.replace(/^\./, '') || 'line';
}

export function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
