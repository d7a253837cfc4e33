/** Document sources as strict text: a file beside the input file, or an object in S3. */
import { constants, open, type FileHandle } from 'node:fs/promises';
import { resolve } from 'node:path';
import { LonghaulError } from '../platform/errors.js';
import type { ObjectStore } from '../platform/object-store.js';
import { TextError, Utf8Decoder } from './utf8.js';

/** UTF-8 bytes of one document. A million tokens of English are about 4.5 MB. */
export const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

/** A document that cannot be read as text. The message goes on after the source's name. */
export class SourceError extends LonghaulError {}

/**
 * The text piece by piece, so that a document need not fit into memory.
 * @throws SourceError for anything but a regular, readable file of UTF-8 text.
 */
export async function* streamDocumentFile(
  directory: string,
  path: string,
  signal?: AbortSignal,
): AsyncGenerator<string> {
  const full = resolve(directory, path);
  const file = await openDocument(full);
  try {
    // A stream made with an aborted signal fails before anybody listens.
    signal?.throwIfAborted();
    yield* decode(full, file.createReadStream({ autoClose: false, signal }), signal);
  } finally {
    await file.close();
  }
}

/** What can be told without reading it. @throws SourceError like `readDocumentFile`. */
export async function checkDocumentFile(directory: string, path: string): Promise<void> {
  await (await openDocument(resolve(directory, path))).close();
}

async function openDocument(full: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    // Without O_NONBLOCK a named pipe would block here until somebody writes to it.
    file = await open(full, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be opened (${code})`;
    throw new SourceError('DOCUMENT_UNREADABLE', `${full} ${reason}; paths are relative to the input file`, {
      cause,
    });
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) {
      throw new SourceError(
        'DOCUMENT_UNREADABLE',
        `${full} is not a regular file; name a file of UTF-8 text`,
      );
    }
    if (found.size > MAX_DOCUMENT_BYTES) throw tooLarge(full);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * The text piece by piece.
 * @throws SourceError for an object that is not UTF-8 text or too large; NotFoundError, ConfigError
 * and InfrastructureError as the object store throws them.
 */
export async function* streamDocumentUrl(
  store: ObjectStore,
  url: string,
  signal?: AbortSignal,
): AsyncGenerator<string> {
  yield* decode(url, await store.openUrl(url, signal), signal);
}

async function* decode(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  const decoder = new Utf8Decoder();
  let bytes = 0;
  let length = 0;
  try {
    for await (const chunk of chunks) {
      signal?.throwIfAborted();
      bytes += chunk.byteLength;
      if (bytes > MAX_DOCUMENT_BYTES) throw tooLarge(name);
      const piece = decoder.write(chunk);
      length += piece.length;
      yield piece;
    }
    const rest = decoder.end();
    length += rest.length;
    yield rest;
  } catch (error) {
    if (error instanceof TextError) {
      throw new SourceError('DOCUMENT_NOT_UTF8', `${name} ${error.message}`, { cause: error });
    }
    throw error;
  }
  if (length === 0) throw new SourceError('DOCUMENT_EMPTY', `${name} is empty`);
}

function tooLarge(name: string): SourceError {
  return new SourceError(
    'DOCUMENT_TOO_LARGE',
    `${name} is larger than ${MAX_DOCUMENT_BYTES} bytes, the most one document may have; split it`,
  );
}
