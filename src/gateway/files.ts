import { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import '@fastify/multipart';
import { mapConcurrently } from '../batch/concurrency.js';
import { unixNow } from '../batch/flags.js';
import { LonghaulError } from '../platform/errors.js';
import { gatewayKeys } from '../platform/keys.js';
import { ApiError, notFound } from './api-error.js';
import type { ApiKey } from './api-keys.js';
import { claimId } from './claims.js';
import type { GatewayContext } from './context.js';
import { bytesLeft, countBytes, tooManyBytes } from './limits.js';
import {
  createRecord,
  drawId,
  fileRecord,
  listIds,
  readRecord,
  replaceRecord,
  sha256,
  type FileRecord,
} from './records.js';
import { settleBatches } from './settle.js';
import { pageOf, uploadForm, type FileObject, type ListFilesQuery, type Page } from './schemas.js';

const READERS = 32;
const NAME_LENGTH = 255;

/**
 * Streams the form's file into S3; nothing of it is there when this throws. The form's other fields may come after it.
 * @throws ApiError, or a ZodError for the fields.
 */
export async function uploadFile(
  { store, redis, config }: GatewayContext,
  key: ApiKey,
  request: FastifyRequest,
  idempotencyKey?: string,
): Promise<FileObject> {
  if (!request.isMultipart())
    throw new ApiError(400, 'invalid_content_type', 'a file is uploaded as multipart/form-data');
  const left = await bytesLeft(redis, key);
  const most = Math.min(left, config.gatewayFileMaxBytes);
  const { owner } = key;
  const own = drawId('file-');
  const content = gatewayKeys.content(owner, own);
  const fields: Record<string, unknown> = {};
  let file: { filename: string; bytes: number; sha256: string } | undefined;
  let received = 0;
  async function* within(chunks: Readable & { truncated: boolean }): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of chunks as AsyncIterable<Buffer>) {
        received += chunk.length;
        yield chunk;
      }
    } catch (cause) {
      throw cause instanceof LonghaulError ? cause : incomplete(cause);
    }
    if (!chunks.truncated) return;
    if (most === left) throw tooManyBytes(key.limits.bytes_per_day);
    throw new ApiError(
      413,
      'file_too_large',
      `the file is larger than ${most} bytes, the most one may have`,
      {
        param: 'file',
      },
    );
  }
  let kept = false;
  try {
    const limits = { fileSize: most, files: 1, fields: 8, fieldSize: 1024, parts: 9 };
    for await (const part of partsOf(request, limits)) {
      if (part.type === 'field') fields[part.fieldname] = part.value;
      else if (part.fieldname !== 'file') throw unknownField(part.fieldname);
      else {
        const filename = (part.filename || 'file').slice(0, NAME_LENGTH);
        file = { filename, ...(await store.put(content, within(part.file))) };
      }
    }
    const { purpose, expires_after } = uploadForm.parse(nested(fields));
    if (file === undefined)
      throw new ApiError(400, 'missing_file', 'the form has no file', { param: 'file' });
    const asked = sha256(JSON.stringify([file.sha256, file.filename, purpose, expires_after?.seconds]));
    const id =
      idempotencyKey === undefined
        ? own
        : await claimId(store, owner, 'file', idempotencyKey, { id: own, request: asked });
    const created_at = unixNow();
    const record: FileRecord = {
      format: 'longhaul-gateway-file/1',
      id,
      ...file,
      created_at,
      expires_at: expires_after === undefined ? null : created_at + expires_after.seconds,
      purpose,
      content,
      deleted: false,
    };
    kept = (await createRecord(store, gatewayKeys.file(owner, id), record)) === 'created';
    // The first request with this key has brought the same bytes.
    return describeFile(kept ? record : await findFile({ store }, owner, id));
  } finally {
    // Two keys of one owner may count at the same time; a request under way is not cut short by the other.
    await Promise.all([
      countBytes(redis, key, received),
      file === undefined || kept ? undefined : store.delete(content),
    ]);
  }
}

/** What the parser does not take is the caller's; its own errors come with a status, those of what it is made of without. */
async function* partsOf(
  request: FastifyRequest,
  limits: NonNullable<Parameters<FastifyRequest['parts']>[0]>['limits'],
): ReturnType<FastifyRequest['parts']> {
  try {
    yield* request.parts({ limits });
  } catch (cause) {
    if (cause instanceof Error && 'statusCode' in cause) throw cause;
    throw refused(
      'invalid_multipart',
      `the form cannot be read (${cause instanceof Error ? cause.message : String(cause)}); send multipart/form-data`,
      cause,
    );
  }
}

const incomplete = (cause: unknown): ApiError =>
  refused('incomplete_upload', 'the upload ended before its end', cause);

const refused = (code: string, message: string, cause: unknown): ApiError => {
  const error = new ApiError(400, code, message);
  error.cause = cause;
  return error;
};

const unknownField = (name: string): ApiError =>
  new ApiError(
    400,
    'unknown_parameter',
    `the form has a field ${JSON.stringify(name)}; the file's is "file"`,
    {
      param: name,
    },
  );

/** `expires_after[seconds]` to `expires_after.seconds`. */
function nested(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  const inner: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const part = /^expires_after\[(anchor|seconds)\]$/.exec(name)?.[1];
    if (part === undefined) result[name] = value;
    else inner[part] = value;
  }
  return Object.keys(inner).length > 0 ? { ...result, expires_after: inner } : result;
}

export function describeFile({
  id,
  bytes,
  created_at,
  expires_at,
  filename,
  purpose,
}: FileRecord): FileObject {
  return { id, object: 'file', bytes, created_at, expires_at, filename, purpose, status: 'processed' };
}

const isThere = (record: FileRecord | undefined): record is FileRecord =>
  record !== undefined && !record.deleted && (record.expires_at === null || record.expires_at > unixNow());

/** @throws ApiError 404 for a file that was deleted, has expired, or is another owner's. */
export async function findFile(
  { store }: Pick<GatewayContext, 'store'>,
  owner: string,
  id: string,
): Promise<FileRecord> {
  const record = await readRecord(store, gatewayKeys.file(owner, id), fileRecord);
  if (!isThere(record)) throw notFound('file', id);
  return record;
}

/** Its bytes, as S3 gives them: nothing of it is held. */
export async function openFile(
  { store }: Pick<GatewayContext, 'store'>,
  { content }: FileRecord,
): Promise<Readable> {
  return Readable.from(await store.openUrl(store.url(content)));
}

export async function listFiles(
  context: GatewayContext,
  owner: string,
  { limit, after, order, purpose }: ListFilesQuery,
): Promise<Page<FileObject>> {
  const { store } = context;
  await settleBatches(context, owner);
  const folder = gatewayKeys.files(owner);
  const found: FileObject[] = [];
  const take = async (ids: string[]): Promise<void> => {
    const read = (id: string) => readRecord(store, gatewayKeys.file(owner, id), fileRecord);
    for (const record of await mapConcurrently(ids, READERS, read)) {
      if (isThere(record) && (purpose === undefined || record.purpose === purpose))
        found.push(describeFile(record));
    }
  };
  let next: string[] = [];
  for await (const id of inOrder(
    listIds(store, folder, order === 'desc' ? after : undefined),
    order,
    after,
  )) {
    next.push(id);
    if (next.length < Math.min(limit + 1, 100)) continue;
    await take(next);
    next = [];
    if (found.length > limit) break;
  }
  await take(next);
  return pageOf(found.slice(0, limit), found.length > limit);
}

/** S3 lists the newest first and cannot list backwards. */
async function* inOrder(
  newestFirst: AsyncIterable<string>,
  order: 'asc' | 'desc',
  after: string | undefined,
): AsyncGenerator<string> {
  if (order === 'desc') {
    yield* newestFirst;
    return;
  }
  const all: string[] = [];
  for await (const id of newestFirst) {
    if (id === after) break;
    all.push(id);
  }
  yield* all.reverse();
}

/** The file's record stays as deleted; the bytes of an uploaded one go, those of a batch stay its own. */
export async function deleteFile({ store }: GatewayContext, owner: string, id: string): Promise<object> {
  const record = await findFile({ store }, owner, id);
  await replaceRecord(store, gatewayKeys.file(owner, id), { ...record, deleted: true });
  if (record.purpose === 'batch') await store.delete(record.content);
  return { id, object: 'file', deleted: true };
}
