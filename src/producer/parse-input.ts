/**
 * Reads an input file once, checks every line and collects everything that is wrong. Documents
 * written inline are not kept: they are read again from their line when they are staged, so that a
 * file may be larger than memory.
 */
import type { ChatMessage, ChatRole } from '../text/chat-template.js';
import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { DocumentFormat } from '../contracts/request.js';
import { InputError, type InputProblem } from '../platform/errors.js';
import { checkDocumentFile, SourceError } from '../text/readers.js';
import type { SourcePolicy } from '../text/source-policy.js';
import { TextError, Utf8Decoder } from '../text/utf8.js';
import { chatDocument, checkChatLine, isChatLine } from './chat-line.js';
import { checkLine, questionBytes, type CheckedRequest } from './check-line.js';
import { MAX_LINE_BYTES, readLines, type InputLine } from './input-lines.js';
import { deeperThan, MAX_NESTING } from './nesting.js';
import { Problems } from './problems.js';
import type { Place, Spool } from './spool.js';

/** `roles`: of the messages that the document is, for a model that takes them. */
interface InlineRef {
  kind: 'inline';
  key: string;
  offset: number;
  bytes: number;
  sha256: string;
  roles?: ChatRole[];
}

/** Where a request's document is. Equal keys: the same source, read once. */
export type DocumentRef =
  | InlineRef
  | { kind: 'path'; key: string; path: string; format?: DocumentFormat }
  | { kind: 'url'; key: string; url: string; format?: DocumentFormat };

/** What of a request is kept in memory: how much it asks for, but not what. */
export interface ParsedRequest {
  line: number;
  custom_id: string;
  document: DocumentRef;
  questions: number;
  questionBytes: number;
  max_tokens: number;
  /** Its `RequestText` in the spool. */
  text: Place;
}

export type RequestText = Pick<
  CheckedRequest,
  'questions' | 'temperature' | 'seed' | 'metadata' | 'chat_model'
>;

export interface ParseOptions {
  /** The name of the model that OpenAI lines must ask for. */
  model: string;
  /** Whether the model's chat template takes the messages of such lines with their roles. */
  roles?: boolean;
  policy: SourcePolicy;
  signal?: AbortSignal;
  maxLineBytes?: number;
}

/** @throws InputError with what is wrong: the first problems, and how many there are. */
export async function parseInput(
  path: string,
  spool: Spool,
  { model, roles = false, policy, signal, maxLineBytes = MAX_LINE_BYTES }: ParseOptions,
): Promise<ParsedRequest[]> {
  const requests: ParsedRequest[] = [];
  const problems = new Problems();
  const sources = new Map<string, DocumentRef>();
  const seen = new Map<string, number>();
  const file = await openInput(path);
  try {
    for await (const line of readLines(file, { limit: maxLineBytes, signal })) {
      const found = parseLine(line, { limit: maxLineBytes, model, policy });
      if (found === undefined) continue;
      for (const problem of found.problems) problems.add({ line: line.line, ...problem });
      if (found.custom_id !== undefined) {
        const first = seen.get(found.custom_id);
        if (first === undefined) seen.set(found.custom_id, line.line);
        else {
          const message = `${JSON.stringify(found.custom_id)} is already used on line ${first}; every request needs its own`;
          problems.add({ line: line.line, field: 'custom_id', message });
        }
      }
      if (found.request === undefined) continue;
      const { custom_id, questions, max_tokens, temperature, seed, metadata, chat_model } = found.request;
      const text: RequestText = { questions, temperature, seed, metadata, chat_model };
      const ref = documentRef(found.request, roles, line.offset, line.bytes?.length ?? 0);
      // One object for all that name the same source.
      const document = sources.get(ref.key) ?? ref;
      sources.set(ref.key, document);
      requests.push({
        line: line.line,
        custom_id,
        document,
        questions: questions.length,
        questionBytes: questionBytes(questions),
        max_tokens,
        text: await spool.appendValue(text),
      });
    }
  } finally {
    await file.close();
  }
  if (problems.total === 0 && requests.length === 0) {
    problems.add({ line: 0, field: 'file', message: 'has no requests; write one JSON object a line' });
  }
  if (problems.total > 0) await checkPaths(dirname(path), requests, policy, problems);
  problems.throwIfAny(path);
  return requests;
}

/**
 * Of a file that is refused already, so that files that are not there are listed with the other problems. In a good
 * one every document is read when it is staged, and what is wrong with any is listed then.
 */
async function checkPaths(
  directory: string,
  requests: readonly ParsedRequest[],
  policy: SourcePolicy,
  problems: Problems,
): Promise<void> {
  const checked = new Map<string, Promise<string | undefined>>();
  for (const { line, document } of requests) {
    if (document.kind !== 'path') continue;
    const { path } = document;
    const check = checked.get(path) ?? problemOf(checkDocumentFile(directory, path, policy));
    checked.set(path, check);
    const message = await check;
    if (message !== undefined) problems.add({ line, field: 'document.path', message });
  }
}

async function problemOf(check: Promise<void>): Promise<string | undefined> {
  try {
    await check;
    return undefined;
  } catch (error) {
    if (error instanceof SourceError) return error.message;
    throw error;
  }
}

async function openInput(path: string): Promise<FileHandle> {
  const refuse = (message: string) => new InputError(path, [{ line: 0, field: 'file', message }]);
  let file: FileHandle;
  try {
    file = await open(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw refuse(code === 'ENOENT' ? 'does not exist' : `cannot be opened (${code})`);
  }
  if (!(await file.stat()).isFile()) {
    await file.close();
    throw refuse('is not a regular file; inline documents are read from it a second time');
  }
  return file;
}

interface LineResult {
  /** Also of a line with problems, for the search for duplicates. */
  custom_id?: string;
  request?: CheckedRequest;
  problems: Omit<InputProblem, 'line'>[];
}

/** Undefined for a blank line. */
function parseLine(
  input: InputLine,
  { limit, model, policy }: { limit: number; model: string; policy: SourcePolicy },
): LineResult | undefined {
  const refuse = (message: string): LineResult => ({ problems: [{ field: 'line', message }] });
  const { bytes } = input;
  if (bytes === null) {
    return refuse(`is longer than ${limit} bytes; put the document into a file and name it by {"path": ...}`);
  }
  let value: unknown;
  try {
    const text = decodeLine(bytes);
    if (text.trim() === '') return undefined;
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof TextError) return refuse(error.message);
    if (error instanceof SyntaxError) return refuse(`is not JSON: ${shorten(error.message)}`);
    throw error;
  }
  if (deeperThan(value, MAX_NESTING)) return refuse(`is nested more than ${MAX_NESTING} deep`);
  const checked = isChatLine(value) ? checkChatLine(value, model) : checkLine(value);
  if ('problems' in checked) {
    const { custom_id } = (typeof value === 'object' && value !== null ? value : {}) as {
      custom_id?: unknown;
    };
    return { problems: checked.problems, custom_id: isId(custom_id) ? custom_id : undefined };
  }
  const { request } = checked;
  if (typeof request.document === 'string' && Buffer.byteLength(request.document) > policy.maxBytes) {
    const message = `is larger than ${policy.maxBytes} bytes (documentMaxBytes), the most one document may have; split it`;
    return { custom_id: request.custom_id, problems: [{ field: 'document', message }] };
  }
  return { custom_id: request.custom_id, request, problems: [] };
}

/** One that is too long is refused by itself, and not kept for the search. */
function isId(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 256;
}

function documentRef(
  { document, messages }: CheckedRequest,
  takesRoles: boolean,
  offset: number,
  bytes: number,
): DocumentRef {
  if (takesRoles && messages !== undefined) {
    const hash = sha256(JSON.stringify(messages));
    const roles = messages.map(({ role }) => role);
    return { kind: 'inline', key: `messages:${hash}`, offset, bytes, sha256: hash, roles };
  }
  if (typeof document === 'string') {
    const hash = sha256(document);
    return { kind: 'inline', key: `inline:${hash}`, offset, bytes, sha256: hash };
  }
  const as = document.format === undefined ? '' : ` as ${document.format}`;
  if ('path' in document) return { kind: 'path', key: `path:${document.path}${as}`, ...document };
  return { kind: 'url', key: `url:${document.url}${as}`, ...document };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function decodeLine(bytes: Buffer): string {
  const decoder = new Utf8Decoder();
  return decoder.write(bytes) + decoder.end();
}

/** V8 quotes the text around an error, which may be a whole document. */
function shorten(message: string): string {
  return message.length > 160 ? `${message.slice(0, 157)}...` : message;
}

/**
 * The inline document of a line that `parseInput` has accepted: text, or messages where the reference has roles.
 * @throws InputError when the file has changed since.
 */
export async function readInlineDocument(
  path: string,
  line: number,
  ref: InlineRef,
): Promise<string | ChatMessage[]> {
  const file = await open(path);
  try {
    const buffer = Buffer.alloc(ref.bytes);
    await file.read(buffer, 0, ref.bytes, ref.offset);
    const value: unknown = JSON.parse(decodeLine(buffer));
    const chat = isChatLine(value) ? chatDocument(value) : undefined;
    if (ref.roles && chat && sha256(JSON.stringify(chat.messages)) === ref.sha256) return chat.messages;
    const document = chat === undefined ? (value as { document?: unknown }).document : chat.document;
    if (typeof document === 'string' && sha256(document) === ref.sha256) return document;
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TextError)) throw error;
  } finally {
    await file.close();
  }
  throw new InputError(path, [
    { line, field: 'line', message: 'changed while it was read; submit it again' },
  ]);
}
