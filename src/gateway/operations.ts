/** Every call of the API: one table, from which the server's routes and the OpenAPI document are made. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { ApiKey } from './api-keys.js';
import { notFound } from './api-error.js';
import { cancelBatch, createBatch, listBatches } from './batches.js';
import type { GatewayContext } from './context.js';
import { deleteFile, describeFile, findFile, listFiles, openFile, uploadFile } from './files.js';
import { getBatch } from './settle.js';
import { batchIdPattern, fileIdPattern } from './records.js';
import { createBatchBody, listBatchesQuery, listFilesQuery, uploadForm, type responses } from './schemas.js';

interface Call<Query, Body> {
  context: GatewayContext;
  key: ApiKey;
  id: string;
  query: Query;
  body: Body;
  idempotencyKey: string | undefined;
  request: FastifyRequest;
  reply: FastifyReply;
}

export interface Operation<Query = unknown, Body = unknown> {
  method: 'GET' | 'POST' | 'DELETE';
  /** As in OpenAPI: `/v1/files/{id}`. */
  path: string;
  name: string;
  summary: string;
  /** What `{id}` names. */
  of?: 'file' | 'batch';
  query?: z.ZodType<Query>;
  body?: z.ZodType<Body>;
  /** Beside the field `file`, in multipart/form-data; the handler reads it. */
  form?: z.ZodType;
  idempotent?: true;
  response: Exclude<keyof typeof responses, 'Error'> | 'bytes';
  handle(call: Call<Query, Body>): Promise<unknown>;
}

/** @throws ApiError 404 for what can be no id, so that none leads elsewhere in S3. */
export function checkId(of: 'file' | 'batch', id: string): string {
  if (!(of === 'file' ? fileIdPattern : batchIdPattern).test(id)) throw notFound(of, id);
  return id;
}

const operation = <Query, Body>(one: Operation<Query, Body>): Operation => one;

export const operations: readonly Operation[] = [
  operation({
    method: 'POST',
    path: '/v1/files',
    name: 'createFile',
    summary: 'Uploads a file of requests, streamed into S3.',
    form: uploadForm,
    idempotent: true,
    response: 'File',
    handle: ({ context, key, request, idempotencyKey }) => uploadFile(context, key, request, idempotencyKey),
  }),
  operation({
    method: 'GET',
    path: '/v1/files',
    name: 'listFiles',
    summary: 'The files of this key, newest first.',
    query: listFilesQuery,
    response: 'FileList',
    handle: ({ context, key, query }) => listFiles(context, key.owner, query),
  }),
  operation({
    method: 'GET',
    path: '/v1/files/{id}',
    name: 'retrieveFile',
    summary: 'What is known of a file.',
    of: 'file',
    response: 'File',
    handle: async ({ context, key, id }) => describeFile(await findFile(context, key.owner, id)),
  }),
  operation({
    method: 'DELETE',
    path: '/v1/files/{id}',
    name: 'deleteFile',
    summary: 'Deletes a file.',
    of: 'file',
    response: 'FileDeleted',
    handle: ({ context, key, id }) => deleteFile(context, key.owner, id),
  }),
  operation({
    method: 'GET',
    path: '/v1/files/{id}/content',
    name: 'downloadFile',
    summary: 'The bytes of a file, streamed from S3.',
    of: 'file',
    response: 'bytes',
    handle: async ({ context, key, id, reply }) => {
      const record = await findFile(context, key.owner, id);
      const bytes = await openFile(context, record);
      return reply.type('application/octet-stream').header('content-length', record.bytes).send(bytes);
    },
  }),
  operation({
    method: 'POST',
    path: '/v1/batches',
    name: 'createBatch',
    summary: 'Makes a batch of an uploaded file, which is looked at afterwards.',
    body: createBatchBody,
    idempotent: true,
    response: 'Batch',
    handle: ({ context, key, body, idempotencyKey }) => createBatch(context, key, body, idempotencyKey),
  }),
  operation({
    method: 'GET',
    path: '/v1/batches',
    name: 'listBatches',
    summary: 'The batches of this key, newest first.',
    query: listBatchesQuery,
    response: 'BatchList',
    handle: ({ context, key, query }) => listBatches(context, key.owner, query),
  }),
  operation({
    method: 'GET',
    path: '/v1/batches/{id}',
    name: 'retrieveBatch',
    summary: 'A batch as it stands.',
    of: 'batch',
    response: 'Batch',
    handle: ({ context, key, id }) => getBatch(context, key.owner, id),
  }),
  operation({
    method: 'POST',
    path: '/v1/batches/{id}/cancel',
    name: 'cancelBatch',
    summary: 'Ends what has no answer yet; answers made so far stay.',
    of: 'batch',
    response: 'Batch',
    handle: ({ context, key, id }) => cancelBatch(context, key.owner, id),
  }),
];
