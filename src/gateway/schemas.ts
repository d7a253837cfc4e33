/** What callers send and get, as OpenAI has it. Unknown fields of a request are errors. */
import { z } from 'zod';
import { windowSeconds } from '../batch/window.js';
import { batchIdPattern, fileIdPattern } from './records.js';

const HOUR = 3600;
const time = z.int().describe('Unix seconds');
const count = z.int().min(0);

const expiresAfter = z.strictObject({
  anchor: z.literal('created_at'),
  seconds: z.coerce
    .number()
    .int()
    .min(HOUR)
    .max(30 * 24 * HOUR),
});

const metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'must have at most 16 pairs');

export const uploadForm = z.strictObject({
  purpose: z.literal('batch'),
  expires_after: expiresAfter.optional(),
});

export const createBatchBody = z.strictObject({
  input_file_id: z.string().regex(fileIdPattern, 'is no id of a file'),
  endpoint: z.literal('/v1/chat/completions'),
  completion_window: z
    .string()
    .refine((text) => windowSeconds(text) !== undefined, 'must be like 24h: a whole number with s, m, h or d')
    .describe('24h, or any other number of s, m, h or d'),
  metadata: metadata.nullish(),
  output_expires_after: expiresAfter.nullish(),
});
export type CreateBatchBody = z.infer<typeof createBatchBody>;

const limit = (most: number, otherwise: number) =>
  z.coerce.number().int().min(1).max(most).default(otherwise);

export const listFilesQuery = z.strictObject({
  limit: limit(10_000, 10_000),
  after: z.string().regex(fileIdPattern, 'is no id of a file').optional(),
  order: z.enum(['asc', 'desc']).default('desc'),
  purpose: z.enum(['batch', 'batch_output']).optional(),
});
export type ListFilesQuery = z.infer<typeof listFilesQuery>;

export const listBatchesQuery = z.strictObject({
  limit: limit(100, 20),
  after: z.string().regex(batchIdPattern, 'is no id of a batch').optional(),
});
export type ListBatchesQuery = z.infer<typeof listBatchesQuery>;

const fileObject = z.object({
  id: z.string(),
  object: z.literal('file'),
  bytes: count,
  created_at: time,
  expires_at: time.nullable(),
  filename: z.string(),
  purpose: z.enum(['batch', 'batch_output']),
  status: z.literal('processed'),
});
export type FileObject = z.infer<typeof fileObject>;

const batch = z.object({
  id: z.string(),
  object: z.literal('batch'),
  endpoint: z.string(),
  errors: z
    .object({
      object: z.literal('list'),
      data: z.array(
        z.object({
          code: z.string(),
          line: count.nullable(),
          message: z.string(),
          param: z.string().nullable(),
        }),
      ),
    })
    .nullable(),
  input_file_id: z.string(),
  completion_window: z.string(),
  status: z.enum([
    'validating',
    'failed',
    'in_progress',
    'finalizing',
    'completed',
    'expired',
    'cancelling',
    'cancelled',
  ]),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: time,
  in_progress_at: time.nullable(),
  expires_at: time,
  finalizing_at: time.nullable(),
  completed_at: time.nullable(),
  failed_at: time.nullable(),
  expired_at: time.nullable(),
  cancelling_at: time.nullable(),
  cancelled_at: time.nullable(),
  request_counts: z.object({ total: count, completed: count, failed: count }),
  usage: z
    .object({
      input_tokens: count,
      input_tokens_details: z.object({ cached_tokens: count }),
      output_tokens: count,
      output_tokens_details: z.object({ reasoning_tokens: count }),
      total_tokens: count,
    })
    .optional()
    .describe('once the batch has ended'),
  metadata: z.record(z.string(), z.string()).nullable(),
});
export type Batch = z.infer<typeof batch>;

const listOf = (item: z.ZodType) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });

/** By the names that they have in the OpenAPI document. */
export const responses = {
  File: fileObject,
  FileList: listOf(fileObject),
  FileDeleted: z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) }),
  Batch: batch,
  BatchList: listOf(batch),
  Error: z.object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  }),
} as const;

export interface Page<T> {
  object: 'list';
  data: T[];
  first_id: string | null;
  last_id: string | null;
  has_more: boolean;
}

export function pageOf<T extends { id: string }>(data: T[], has_more: boolean): Page<T> {
  return { object: 'list', data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more };
}
