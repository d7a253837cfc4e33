/** Opens a document's file, and only one that the policy allows. */
import { constants, open, realpath, type FileHandle } from 'node:fs/promises';
import { relative, resolve, isAbsolute } from 'node:path';
import { SourceError, tooLarge } from './source-error.js';
import type { SourcePolicy } from './source-policy.js';

/**
 * @param directory what relative paths are relative to
 * @throws SourceError for anything but a regular, readable file in its place.
 */
export async function openDocumentFile(
  directory: string,
  path: string,
  policy: SourcePolicy,
): Promise<{ name: string; file: FileHandle }> {
  const full = resolve(directory, path);
  // Who is kept in a folder is not told where it is.
  const name = policy.documentRoot === undefined ? full : path;
  let file: FileHandle;
  try {
    const place = await allowedPlace(full, name, policy);
    // Without O_NONBLOCK a named pipe would block here until somebody writes to it.
    file = await open(place, constants.O_RDONLY | constants.O_NONBLOCK);
    if (policy.documentRoot !== undefined && (await realpath(place)) !== place) {
      await file.close();
      throw new SourceError('DOCUMENT_OUTSIDE_ROOT', `${name} was moved while it was opened`);
    }
  } catch (cause) {
    if (cause instanceof SourceError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    const reason = code === 'ENOENT' ? 'does not exist' : `cannot be opened (${code})`;
    const hint = policy.documentRoot === undefined ? '; paths are relative to the input file' : '';
    throw new SourceError('DOCUMENT_UNREADABLE', `${name} ${reason}${hint}`, { cause });
  }
  try {
    const found = await file.stat();
    if (!found.isFile()) {
      throw new SourceError('DOCUMENT_UNREADABLE', `${name} is not a regular file; name a file of text`);
    }
    if (found.size > policy.maxBytes) throw tooLarge(name, policy.maxBytes);
    return { name, file };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The path, with every link in it followed when there is a root that it must be below. */
async function allowedPlace(full: string, name: string, { documentRoot }: SourcePolicy): Promise<string> {
  if (documentRoot === undefined) return full;
  if (documentRoot === null) {
    throw new SourceError(
      'DOCUMENT_OUTSIDE_ROOT',
      `${name} is a file; this service reads none, because no documentRoot is set`,
    );
  }
  const refuse = () =>
    new SourceError('DOCUMENT_OUTSIDE_ROOT', `${name} is outside of the folder that documents may be in`);
  const root = await realpath(documentRoot).catch((cause: unknown) => {
    throw new SourceError(
      'DOCUMENT_UNREADABLE',
      `${name} cannot be read: there is no folder at documentRoot`,
      { cause },
    );
  });
  // First without looking, so that the answer does not tell what there is elsewhere.
  if (!isBelow(resolve(documentRoot), full) && !isBelow(root, full)) throw refuse();
  const place = await realpath(full);
  if (!isBelow(root, place)) throw refuse();
  return place;
}

function isBelow(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== '' && way !== '..' && !way.startsWith('../') && !isAbsolute(way);
}
