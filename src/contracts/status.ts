import { z } from 'zod';
import { batchWork, tokenUsage } from './totals.js';

/** Counts of a batch's requests. answered + failed + cancelled + expired + pending = total, always. */
export const requestCounts = z.strictObject({
  total: z.int(),
  answered: z.int(),
  failed: z.int(),
  cancelled: z.int(),
  expired: z.int(),
  pending: z.int(),
});
export type RequestCounts = z.infer<typeof requestCounts>;

/** States and timestamps follow OpenAI's Batch object; times are Unix seconds. */
export const batchStatus = z.strictObject({
  id: z.string(),
  status: z.enum([
    'validating',
    'in_progress',
    'finalizing',
    'completed',
    'cancelling',
    'cancelled',
    'expired',
  ]),
  created_at: z.int(),
  expires_at: z.int().nullable(),
  completed_at: z.int().nullable(),
  cancel_requested_at: z.int().nullable(),
  request_counts: requestCounts,
  /** Work items: one document each. */
  documents: z.strictObject({ total: z.int(), ended: z.int() }),
  /** Of the outcomes so far. Null: an older version finished the batch and kept none. */
  usage: tokenUsage.nullable(),
  work: batchWork.nullable(),
  input: z.string(),
  /** The second batch, over the answers of this one's parts; null: none, or none yet. */
  then: z.string().nullable(),
  /** Of such a second batch, the first. */
  then_of: z.string().nullable(),
  /** Work items being run right now. */
  active: z.array(
    z.strictObject({
      item: z.int(),
      epoch: z.int(),
      phase: z.string(),
      done: z.number(),
      total: z.number(),
      document_tokens: z.int(),
    }),
  ),
  /** Work items that were tried and have gone back to wait, or are tried again: why. The first of them. */
  given_back: z.array(
    z.strictObject({
      item: z.int(),
      infrastructure_faults: z.int(),
      /** `CODE: message` */
      last_fault: z.string().nullable(),
      engine_deaths: z.int(),
    }),
  ),
});
export type BatchStatus = z.infer<typeof batchStatus>;
