/** Reads, tokenises and stores each distinct document of an input file once. */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { mapConcurrently } from '../batch/concurrency.js';
import { documentBytes, type StoredDocument } from '../batch/documents.js';
import { ConfigError, NotFoundError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { SourceError, streamDocumentFile, streamDocumentUrl } from '../text/readers.js';
import type { SourcePolicy } from '../text/source-policy.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { TextError } from '../text/utf8.js';
import type { QueriedRequest } from './encode-queries.js';
import { readInlineDocument, type DocumentRef } from './parse-input.js';
import { Problems } from './problems.js';
import { Slots } from './slots.js';
import { Spool } from './spool.js';
import { stageParts, type StagedPart } from './stage-parts.js';

/** Documents tokenised at the same time: bounds memory, and more would wait for a processor. */
const READERS = Math.min(8, availableParallelism());
/** Documents under way, most of them waiting for the network. */
const LANES = 16;

export type StagedDocument = StoredDocument;

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
  policy: SourcePolicy;
  requests: readonly QueriedRequest[];
  /** The most document tokens that leave room for this request's queries and answers. */
  room: (request: QueriedRequest) => number;
  /** Documents beyond their room are split, with this many tokens of overlap; undefined: they are a problem. */
  overlap?: number;
  onProgress?: (progress: StageProgress) => void;
  signal?: AbortSignal;
}

export interface StageResult {
  /** By `DocumentRef.key`. */
  documents: Map<string, StagedDocument>;
  /** Of those that were split, likewise. */
  parts: Map<string, StagedPart[]>;
  /** Those that were in S3 already, by sha256, with the `custom_id` of a request for each. */
  existing: Map<string, string>;
}

/**
 * Documents go to S3 under the hash of tokenizer digest and ids, so staging one again changes
 * nothing. The hash is known at a document's end, so its ids wait in a temporary file on this
 * machine: nothing half-done is ever in S3, one that is there already is not sent, and of several
 * that stage the same document the store lets one create it. A document that cannot be read or does
 * not fit is a problem of every line that names it; once there is one, the others are still checked
 * but no more are stored.
 * @throws InputError naming those lines; InfrastructureError when S3 fails.
 */
export async function stageDocuments(input: StageInput): Promise<StageResult> {
  const { store, requests, room, overlap, onProgress, signal } = input;
  const users = new Map<string, QueriedRequest[]>();
  for (const request of requests) {
    const known = users.get(request.document.key);
    if (known === undefined) users.set(request.document.key, [request]);
    else known.push(request);
  }
  const documents = new Map<string, StagedDocument>();
  const parts = new Map<string, StagedPart[]>();
  const existing = new Map<string, string>();
  const problems = new Problems();
  let tokens = 0;
  let done = 0;
  const readers = new Slots(READERS);
  const advance = (more: number) => {
    tokens += more;
    onProgress?.({ done, total: users.size, tokens });
  };
  advance(0);

  const stage = async ([key, naming]: [string, QueriedRequest[]]): Promise<void> => {
    const [first] = naming;
    if (first === undefined) return;
    const { document } = first;
    const field = document.kind === 'inline' ? 'document' : `document.${document.kind}`;
    const spool = await Spool.open();
    try {
      const read = await readIds(input, first, spool, { readers, advance });
      if (read instanceof Error) {
        for (const { line } of naming) problems.add({ line, field, message: read.message });
      } else {
        const tooLong = naming.filter((request) => read.tokens > room(request));
        for (const request of overlap === undefined ? tooLong : []) {
          const message = `has ${read.tokens} tokens; with its questions and max_tokens this request leaves room for ${Math.max(0, room(request))}. Split it, or use a model with a longer context`;
          problems.add({ line: request.line, field, message });
        }
        if (problems.total === 0 && overlap !== undefined && tooLong.length > 0) {
          // One cut serves all who name it.
          const staged = await stageParts(input, spool, { most: Math.min(...tooLong.map(room)), overlap });
          parts.set(key, staged);
          for (const { sha256, existed } of staged) if (existed) existing.set(sha256, first.custom_id);
        }
        if (problems.total === 0 && tooLong.length < naming.length) {
          const stored = await store.createStream(objectKeys.document(read.sha256), spool.stream(), signal);
          if (stored === 'exists') existing.set(read.sha256, first.custom_id);
        }
        documents.set(key, read);
      }
    } finally {
      await spool.close();
    }
    done += 1;
    advance(0);
  };
  await mapConcurrently([...users], LANES, stage, signal);
  problems.throwIfAny(input.file);
  return { documents, parts, existing };
}

/** The ids to the spool, piece by piece; or what is wrong with the source, as an error for the person. */
async function readIds(
  input: StageInput,
  { line, document }: QueriedRequest,
  spool: Spool,
  { readers, advance }: { readers: Slots; advance: (tokens: number) => void },
): Promise<StagedDocument | Error> {
  try {
    const { tokenizer, signal } = input;
    const stored = (ids: () => AsyncIterable<Uint32Array>) =>
      readers.use(() => store(tokenizer.digest, ids(), spool, advance));
    if (document.kind === 'inline') return await stored(() => inlineIds(input, line, document));
    const pieces = open(input, document);
    if (document.kind === 'path') return await stored(() => tokenizer.streamDocument(pieces, signal));
    // Fetched before it takes a place from others: the network may be slow.
    const text = await Spool.open();
    try {
      for await (const piece of pieces) await text.append(Buffer.from(piece, 'utf16le'));
      return await stored(() => tokenizer.streamDocument(fromUtf16(text), signal));
    } finally {
      await text.close();
    }
  } catch (error) {
    // A missing object or refused access is about this document; S3 failing is about everything.
    const itsOwn =
      error instanceof SourceError ||
      error instanceof TextError ||
      error instanceof NotFoundError ||
      error instanceof ConfigError;
    if (itsOwn) return error;
    throw error;
  }
}

async function* inlineIds(
  { file, tokenizer, signal }: StageInput,
  line: number,
  ref: Extract<DocumentRef, { kind: 'inline' }>,
): AsyncGenerator<Uint32Array> {
  const read = await readInlineDocument(file, line, ref);
  if (typeof read === 'string') yield* tokenizer.streamDocument(read, signal);
  else if (tokenizer.conversation !== undefined) yield* tokenizer.conversation.streamDocument(read, signal);
  else throw new Error('messages with roles for a model without a chat template');
}

/** UTF-16 keeps pieces that were cut inside a character. */
async function* fromUtf16(text: Spool): AsyncGenerator<string> {
  for await (const bytes of text.stream()) yield bytes.toString('utf16le');
}

async function store(
  digest: string,
  runs: AsyncIterable<Uint32Array>,
  spool: Spool,
  advance: (tokens: number) => void,
): Promise<StagedDocument> {
  const hash = createHash('sha256').update(digest);
  let tokens = 0;
  for await (const ids of runs) {
    const bytes = documentBytes(ids);
    hash.update(bytes);
    await spool.append(bytes);
    tokens += ids.length;
    advance(ids.length);
  }
  return { sha256: hash.digest('hex'), tokens };
}

async function* open(
  { store, file, policy, signal }: StageInput,
  document: Exclude<DocumentRef, { kind: 'inline' }>,
): AsyncGenerator<string> {
  const options = { policy, format: document.format, signal };
  if (document.kind === 'path') yield* streamDocumentFile(dirname(file), document.path, options);
  else yield* streamDocumentUrl(store, document.url, options);
}
