/** Reads, tokenises and stores each distinct document of an input file once. */
import { createHash } from 'node:crypto';
import { endianness } from 'node:os';
import { dirname } from 'node:path';
import { mapConcurrently } from '../batch/concurrency.js';
import { ConfigError, NotFoundError, type InputProblem } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { readDocumentFile, readDocumentUrl, SourceError } from '../text/readers.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { hasLoneSurrogate } from '../text/utf8.js';
import { readInlineDocument, type DocumentRef, type ParsedRequest } from './parse-input.js';

/** Documents read and tokenised at the same time; the encoder's threads are native. */
const CONCURRENCY = 2;

export interface StagedDocument {
  sha256: string;
  tokens: number;
}

export interface StageProgress {
  done: number;
  total: number;
  tokens: number;
}

export interface StageInput {
  store: ObjectStore;
  tokenizer: Tokenizer;
  /** The input file; document paths are relative to its directory. */
  file: string;
  requests: readonly ParsedRequest[];
  /** The most document tokens that leave room for this request's queries and answers. */
  room: (request: ParsedRequest) => number;
  onProgress?: (progress: StageProgress) => void;
  signal?: AbortSignal;
}

export interface StageResult {
  /** By `DocumentRef.key`. */
  documents: Map<string, StagedDocument>;
  problems: InputProblem[];
}

/**
 * Documents go to S3 under the hash of tokenizer digest and ids, so staging one again changes
 * nothing. A document that cannot be read or does not fit is a problem of every line that names it;
 * once there is one, the others are still checked but no more are stored.
 * @throws InfrastructureError when S3 fails.
 */
export async function stageDocuments(input: StageInput): Promise<StageResult> {
  const { store, tokenizer, requests, room, onProgress, signal } = input;
  const users = new Map<string, ParsedRequest[]>();
  for (const request of requests) {
    const known = users.get(request.document.key);
    if (known === undefined) users.set(request.document.key, [request]);
    else known.push(request);
  }
  const documents = new Map<string, StagedDocument>();
  const problems: InputProblem[] = [];
  let tokens = 0;
  let done = 0;
  onProgress?.({ done, total: users.size, tokens });

  const stage = async ([key, naming]: [string, ParsedRequest[]]): Promise<void> => {
    const [first] = naming;
    if (first === undefined) return;
    const { document } = first;
    const field = document.kind === 'inline' ? 'document' : `document.${document.kind}`;
    const text = await readSource(input, first);
    if (text instanceof Error) {
      problems.push(...naming.map(({ line }) => ({ line, field, message: text.message })));
    } else {
      const ids = await tokenizer.encodeDocument(text, signal);
      const long = naming.filter((request) => ids.length > room(request));
      problems.push(
        ...long.map((request) => ({
          line: request.line,
          field,
          message: `has ${ids.length} tokens; with its questions and max_tokens this request leaves room for ${Math.max(0, room(request))}. Split it, or use a model with a longer context`,
        })),
      );
      const bytes = toLittleEndian(ids);
      const sha256 = createHash('sha256').update(tokenizer.digest).update(bytes).digest('hex');
      if (problems.length === 0) await store.create(objectKeys.document(sha256), bytes, signal);
      documents.set(key, { sha256, tokens: ids.length });
      tokens += ids.length;
    }
    done += 1;
    onProgress?.({ done, total: users.size, tokens });
  };
  await mapConcurrently([...users], CONCURRENCY, stage, signal);
  return { documents, problems: problems.sort((a, b) => a.line - b.line) };
}

/** The text, or what is wrong with the source, as an error whose message is for the person. */
async function readSource(input: StageInput, { line, document }: ParsedRequest): Promise<string | Error> {
  try {
    const text = await open(input, line, document);
    return hasLoneSurrogate(text) ? new SourceError('BAD_TEXT', 'contains half a surrogate pair') : text;
  } catch (error) {
    // A missing object or refused access is about this document; S3 failing is about everything.
    const itsOwn =
      error instanceof SourceError || error instanceof NotFoundError || error instanceof ConfigError;
    if (itsOwn) return error;
    throw error;
  }
}

function open({ store, file, signal }: StageInput, line: number, document: DocumentRef): Promise<string> {
  if (document.kind === 'inline') return readInlineDocument(file, line, document);
  if (document.kind === 'path') return readDocumentFile(dirname(file), document.path, signal);
  return readDocumentUrl(store, document.url, signal);
}

function toLittleEndian(ids: Uint32Array): Buffer {
  const bytes = Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength);
  return endianness() === 'BE' ? Buffer.from(bytes).swap32() : bytes;
}
