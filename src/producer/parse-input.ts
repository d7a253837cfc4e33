/**
 * Reads an input file once, checks every line and collects everything that is wrong. Documents
 * written inline are not kept: they are read again from their line when they are staged, so that a
 * file may be larger than memory.
 */
import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { RequestLine } from '../contracts/request.js';
import { InputError, type InputProblem } from '../platform/errors.js';
import { checkDocumentFile, MAX_DOCUMENT_BYTES, SourceError } from '../text/readers.js';
import { TextError, Utf8Decoder } from '../text/utf8.js';
import { checkLine, questionsOf } from './check-line.js';
import { MAX_LINE_BYTES, readLines, type InputLine } from './input-lines.js';

/** Where a request's document is. Equal keys: the same source, read once. */
export type DocumentRef =
  | { kind: 'inline'; key: string; offset: number; bytes: number; sha256: string }
  | { kind: 'path'; key: string; path: string }
  | { kind: 'url'; key: string; url: string };

export interface ParsedRequest {
  line: number;
  custom_id: string;
  document: DocumentRef;
  questions: string[];
  max_tokens: number;
  temperature: number;
  seed: number;
  metadata: Record<string, string> | null;
}

export interface ParseOptions {
  signal?: AbortSignal;
  maxLineBytes?: number;
}

/** @throws InputError listing all problems. */
export async function parseInput(
  path: string,
  { signal, maxLineBytes = MAX_LINE_BYTES }: ParseOptions = {},
): Promise<ParsedRequest[]> {
  const requests: ParsedRequest[] = [];
  const problems: InputProblem[] = [];
  const seen = new Map<string, number>();
  const file = await openInput(path);
  try {
    for await (const line of readLines(file, { limit: maxLineBytes, signal })) {
      const found = parseLine(line, maxLineBytes);
      if (found === undefined) continue;
      problems.push(...found.problems.map((problem) => ({ line: line.line, ...problem })));
      if (found.custom_id !== undefined) {
        const first = seen.get(found.custom_id);
        if (first === undefined) seen.set(found.custom_id, line.line);
        else {
          const message = `${JSON.stringify(found.custom_id)} is already used on line ${first}; every request needs its own`;
          problems.push({ line: line.line, field: 'custom_id', message });
        }
      }
      if (found.request !== undefined) requests.push(found.request);
    }
  } finally {
    await file.close();
  }
  if (problems.length === 0 && requests.length === 0) {
    problems.push({ line: 0, field: 'file', message: 'has no requests; write one JSON object a line' });
  }
  if (problems.length > 0) {
    problems.push(...(await checkPaths(dirname(path), requests)));
    throw new InputError(
      path,
      problems.sort((a, b) => a.line - b.line),
    );
  }
  return requests;
}

/**
 * Of a file that is refused already, so that files that are not there are listed with the other problems. In a good
 * one every document is read when it is staged, and what is wrong with any is listed then.
 */
async function checkPaths(directory: string, requests: readonly ParsedRequest[]): Promise<InputProblem[]> {
  const checked = new Map<string, Promise<string | undefined>>();
  const problems: InputProblem[] = [];
  for (const { line, document } of requests) {
    if (document.kind !== 'path') continue;
    const { path } = document;
    const check = checked.get(path) ?? problemOf(checkDocumentFile(directory, path));
    checked.set(path, check);
    const message = await check;
    if (message !== undefined) problems.push({ line, field: 'document.path', message });
  }
  return problems;
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
  request?: ParsedRequest;
  problems: Omit<InputProblem, 'line'>[];
}

/** Undefined for a blank line. */
function parseLine(input: InputLine, limit: number): LineResult | undefined {
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
  const checked = checkLine(value);
  if ('problems' in checked) {
    const { custom_id } = (typeof value === 'object' && value !== null ? value : {}) as {
      custom_id?: unknown;
    };
    return { problems: checked.problems, custom_id: typeof custom_id === 'string' ? custom_id : undefined };
  }
  const { request } = checked;
  if (typeof request.document === 'string' && Buffer.byteLength(request.document) > MAX_DOCUMENT_BYTES) {
    const message = `is larger than ${MAX_DOCUMENT_BYTES} bytes, the most one document may have; split it`;
    return { custom_id: request.custom_id, problems: [{ field: 'document', message }] };
  }
  return {
    custom_id: request.custom_id,
    request: {
      line: input.line,
      custom_id: request.custom_id,
      document: documentRef(request.document, input.offset, bytes.length),
      questions: questionsOf(request),
      max_tokens: request.max_tokens,
      temperature: request.temperature,
      seed: request.seed,
      metadata: request.metadata ?? null,
    },
    problems: [],
  };
}

function documentRef(document: RequestLine['document'], offset: number, bytes: number): DocumentRef {
  if (typeof document === 'string') {
    const sha256 = createHash('sha256').update(document).digest('hex');
    return { kind: 'inline', key: `inline:${sha256}`, offset, bytes, sha256 };
  }
  if ('path' in document) return { kind: 'path', key: `path:${document.path}`, path: document.path };
  return { kind: 'url', key: `url:${document.url}`, url: document.url };
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
 * The inline document of a line that `parseInput` has accepted.
 * @throws InputError when the file has changed since.
 */
export async function readInlineDocument(
  path: string,
  line: number,
  ref: Extract<DocumentRef, { kind: 'inline' }>,
): Promise<string> {
  const file = await open(path);
  try {
    const buffer = Buffer.alloc(ref.bytes);
    await file.read(buffer, 0, ref.bytes, ref.offset);
    const { document } = JSON.parse(decodeLine(buffer)) as { document: string };
    if (createHash('sha256').update(document).digest('hex') === ref.sha256) return document;
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TextError)) throw error;
  } finally {
    await file.close();
  }
  throw new InputError(path, [
    { line, field: 'line', message: 'changed while it was read; submit it again' },
  ]);
}
