/** A document's source as text, piece by piece, so that a document need not fit into memory. */
import type { DocumentFormat } from '../contracts/request.js';
import type { ObjectStore } from '../platform/object-store.js';
import { decodeText, type CharsetHints } from './charset.js';
import { openDocumentFile } from './document-file.js';
import { formatOfAnswer, formatOfName } from './document-format.js';
import { fetchDocument, type Fetched } from './fetch-document.js';
import { htmlToText } from './html-text.js';
import { markdownToText } from './markdown-text.js';
import type { Resolver } from './public-address.js';
import { SourceError, tooLarge } from './source-error.js';
import { allowsObject, type SourcePolicy } from './source-policy.js';

export { SourceError } from './source-error.js';

export interface ReadOptions {
  policy: SourcePolicy;
  /** Undefined: by content type or by the name's ending. */
  format?: DocumentFormat;
  signal?: AbortSignal;
}

/**
 * Plain text comes as it is, but for a byte order mark; Markdown and HTML come as text that keeps their structure.
 * @param directory what relative paths are relative to
 * @throws SourceError for anything but a regular, readable file of text in its place.
 */
export async function* streamDocumentFile(
  directory: string,
  path: string,
  { policy, format = formatOfName(path), signal }: ReadOptions,
): AsyncGenerator<string> {
  const { name, file } = await openDocumentFile(directory, path, policy);
  try {
    // A stream made with an aborted signal fails before anybody listens.
    signal?.throwIfAborted();
    const chunks = file.createReadStream({ autoClose: false, signal });
    yield* read(name, bounded(name, chunks, policy.maxBytes, signal), format);
  } finally {
    await file.close();
  }
}

/** What can be told without reading it. @throws SourceError like `streamDocumentFile`. */
export async function checkDocumentFile(
  directory: string,
  path: string,
  policy: SourcePolicy,
): Promise<void> {
  await (await openDocumentFile(directory, path, policy)).file.close();
}

/**
 * An object in S3 or a document on the web, likewise.
 * @throws SourceError for what is not text, too large or not allowed; for objects also NotFoundError,
 * ConfigError and InfrastructureError as the object store throws them.
 */
export async function* streamDocumentUrl(
  store: ObjectStore,
  url: string,
  { policy, format, signal, resolve }: ReadOptions & { resolve?: Resolver },
): AsyncGenerator<string> {
  const object = /^s3:\/\/([^/]+)\/(.+)$/s.exec(url);
  if (object !== null) {
    if (!allowsObject(policy, object[1] ?? '', object[2] ?? '')) {
      throw new SourceError('DOCUMENT_URL_REFUSED', `${url} is not in this service's documentBuckets`);
    }
    const chunks = bounded(url, await store.openUrl(url, signal), policy.maxBytes, signal);
    yield* read(url, chunks, format ?? formatOfName(url));
    return;
  }
  const use = ({ url: found, contentType, chunks }: Fetched): AsyncGenerator<string> =>
    read(url, chunks, formatOfAnswer(contentType, found.pathname, format), contentType);
  try {
    yield* fetchDocument(url, policy, use, { signal, resolve });
  } catch (error) {
    // Those of the fetch go on after the name; those of the text hold it.
    if (!(error instanceof SourceError) || error.message.startsWith(url)) throw error;
    throw new SourceError(error.code, `${url} ${error.message}`, { cause: error.cause });
  }
}

async function* read(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  format: DocumentFormat,
  contentType?: string,
): AsyncGenerator<string> {
  const hints: CharsetHints = { contentType, html: format === 'html' };
  let length = 0;
  for await (const piece of convert(decodeText(name, chunks, hints), format)) {
    length += piece.length;
    yield piece;
  }
  if (length > 0) return;
  const what = format === 'text' ? 'is empty' : `has no text (read as ${format})`;
  throw new SourceError('DOCUMENT_EMPTY', `${name} ${what}`);
}

function convert(pieces: AsyncIterable<string>, format: DocumentFormat): AsyncIterable<string> {
  switch (format) {
    case 'text':
      return pieces;
    case 'markdown':
      return markdownToText(pieces);
    case 'html':
      return htmlToText(pieces);
  }
}

async function* bounded(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw tooLarge(name, maxBytes);
    yield chunk;
  }
}
