import { z } from 'zod';
import { batchWork, tokenUsage } from './totals.js';
import { answer, execution } from './work-item.js';

/**
 * The one terminal result of a request: `outcomes/<ordinal>-<hash>.json`, and one line of
 * `output.jsonl` (answered) or `error.jsonl` (the rest). Its bytes are a pure function of the
 * child's value: no clock, no writer.
 */
export const outcome = z.strictObject({
  format: z.literal('longhaul-outcome/1'),
  batch_id: z.string(),
  ordinal: z.int().min(0),
  custom_id: z.string(),
  status: z.enum(['answered', 'failed', 'cancelled', 'expired']),
  answers: z.array(answer),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  usage: tokenUsage.nullable(),
  execution: execution.nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
});
export type Outcome = z.infer<typeof outcome>;
export type OutcomeStatus = Outcome['status'];

/** `_SUCCESS`: written last. Readers trust nothing of a batch before it. */
export const success = z.strictObject({
  format: z.literal('longhaul-success/1'),
  batch_id: z.string(),
  counts: z.strictObject({
    total: z.int(),
    answered: z.int(),
    failed: z.int(),
    cancelled: z.int(),
    expired: z.int(),
  }),
  usage: tokenUsage,
  /** Absent in what an older version wrote. */
  work: batchWork.optional(),
  files: z.strictObject({
    output: z.strictObject({ key: z.string(), bytes: z.int(), sha256: z.string() }),
    error: z.strictObject({ key: z.string(), bytes: z.int(), sha256: z.string() }),
  }),
  version: z.string(),
});
export type Success = z.infer<typeof success>;
