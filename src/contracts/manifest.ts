import { z } from 'zod';
import { runOptions } from './request.js';

/** sha256 in lower-case hex. */
export const digest = z.string().regex(/^[0-9a-f]{64}$/);

/** Which files gave the answers; a batch under other weights is another batch. */
export const modelDigests = z.strictObject({ model: digest, tokenizer: digest, heads: digest.nullable() });
export type ModelDigests = z.infer<typeof modelDigests>;

/** As the gateway names the owners of its keys. */
export const TENANT = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Line 1 of `manifest.jsonl`. */
export const manifestHeader = z.strictObject({
  format: z.literal('longhaul-manifest/1'),
  batch_id: z.string(),
  /** Unix seconds. */
  created_at: z.int(),
  /** Unix seconds after which waiting work items end as expired; null: never. */
  expires_at: z.int().nullable(),
  /** The input file's name, for people. */
  input: z.string(),
  options: runOptions,
  digests: modelDigests,
  totals: z.strictObject({ requests: z.int(), questions: z.int(), documents: z.int(), items: z.int() }),
  retry_of: z.string().nullable(),
  /** -100 to 100, higher runs first; absent: 0. */
  priority: z.int().min(-100).max(100).optional(),
  /** Whose it is: batches of one tenant share its turns; absent: the batch takes turns of its own. */
  tenant: z.string().regex(TENANT).optional(),
});
export type ManifestHeader = z.infer<typeof manifestHeader>;

/** The further lines of `manifest.jsonl`: one accepted request each, by ordinal (0-based, input order). */
export const manifestRequest = z.strictObject({
  ordinal: z.int().min(0),
  custom_id: z.string(),
  /** Index of the work item that answers it. */
  item: z.int().min(0),
  document: z.strictObject({ sha256: digest, tokens: z.int().min(1) }),
  questions: z.array(z.string()).min(1),
  max_tokens: z.int(),
  temperature: z.number(),
  seed: z.int(),
  metadata: z.record(z.string(), z.string()).nullable(),
  /** The model as an OpenAI line named it, whose outcome is then given in OpenAI's shape; absent: longhaul's own. */
  chat_model: z.string().optional(),
});
export type ManifestRequest = z.infer<typeof manifestRequest>;

export interface Manifest {
  header: ManifestHeader;
  requests: ManifestRequest[];
}

/** What names a request's outcome and its work item. */
export type RequestKey = Pick<ManifestRequest, 'ordinal' | 'custom_id' | 'item'>;
