import { z } from 'zod';
import { runOptions } from './request.js';

/** sha256 in lower-case hex. */
export const digest = z.string().regex(/^[0-9a-f]{64}$/);

/** Which files gave the answers; a batch under other weights is another batch. */
export const modelDigests = z.strictObject({ model: digest, tokenizer: digest, heads: digest.nullable() });
export type ModelDigests = z.infer<typeof modelDigests>;

/** As the gateway names the owners of its keys. */
export const TENANT = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export const LANE = /^[a-z0-9][a-z0-9_-]{0,31}$/;

/** A queue for documents of at most so many tokens. */
export const lane = z.strictObject({ name: z.string().regex(LANE), up_to: z.int().min(1) });
export type Lane = z.infer<typeof lane>;

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
  /**
   * Of a batch with parts: when it has finished, a second one asks this question (null: the parts' own) of the parts'
   * answers. Its id follows from this one's.
   */
  then: z.strictObject({ question: z.string().min(1).nullable() }).optional(),
  /** Of such a second batch: the first. */
  then_of: z.string().optional(),
  /** By growing bounds, as they were set when it was submitted; absent: none. */
  lanes: z.array(lane).optional(),
});
export type ManifestHeader = z.infer<typeof manifestHeader>;

/** Where a part stands in the document that was too long for the model: its tokens [start, end). */
export const partPlace = z.strictObject({
  /** The `custom_id` of the request that was split. */
  of: z.string(),
  index: z.int().min(0),
  count: z.int().min(2),
  start: z.int().min(0),
  end: z.int().min(1),
});
export type PartPlace = z.infer<typeof partPlace>;

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
  /** Its document is a part of a longer one. */
  part: partPlace.optional(),
});
export type ManifestRequest = z.infer<typeof manifestRequest>;

/** `then.json` of a batch with a `then`, written once: what became of it. */
export const thenRecord = z.strictObject({
  format: z.literal('longhaul-then/1'),
  /** The second batch; null: no document had an answer of each of its parts. */
  batch_id: z.string().nullable(),
  /** The split requests that it does not ask again, by their `custom_id`, and why. */
  left_out: z.array(z.strictObject({ custom_id: z.string(), code: z.string(), message: z.string() })),
});
export type ThenRecord = z.infer<typeof thenRecord>;

export interface Manifest {
  header: ManifestHeader;
  requests: ManifestRequest[];
}

/** What names a request's outcome, its work item and its document. */
export type RequestKey = Pick<ManifestRequest, 'ordinal' | 'custom_id' | 'item' | 'document'>;
