import { z } from 'zod';
import { digest, modelDigests } from './manifest.js';
import { runOptions } from './request.js';
import { itemTimeline } from './timeline.js';
import { tokenUsage } from './totals.js';

/**
 * `items/<index>.json` of a batch: all that a cohort needs to run one work item. Immutable, written
 * before the flow is enqueued; jobs only refer to it.
 */
export const workItem = z.strictObject({
  format: z.literal('longhaul-item/1'),
  batch_id: z.string(),
  index: z.int().min(0),
  document: z.strictObject({ sha256: digest, tokens: z.int().min(1) }),
  options: runOptions,
  digests: modelDigests,
  expires_at: z.int().nullable(),
  requests: z
    .array(
      z.strictObject({
        ordinal: z.int().min(0),
        custom_id: z.string(),
        max_tokens: z.int().min(1),
        temperature: z.number(),
        seed: z.int(),
        /** Each question's query token ids, as placed in the anchor and after the document. */
        questions: z.array(z.strictObject({ text: z.string(), query: z.array(z.int()).min(1) })).min(1),
      }),
    )
    .min(1),
});
export type WorkItem = z.infer<typeof workItem>;

/** Data of the `documents` child and of its `outcomes` parent. */
export const itemJob = z.strictObject({ batch_id: z.string(), item: z.int().min(0) });
export type ItemJob = z.infer<typeof itemJob>;

/** Data of a `finalise` job. */
export const finaliseJob = z.strictObject({ batch_id: z.string() });
export type FinaliseJob = z.infer<typeof finaliseJob>;

export const answer = z.strictObject({
  question: z.string(),
  text: z.string(),
  tokens: z.int().min(0),
  /** `stop`: an end token; `length`: max_tokens reached. */
  finish: z.enum(['stop', 'length']),
});
export type Answer = z.infer<typeof answer>;

/** How an answer was made. A backend or method is never silently replaced: this says what ran. */
export const execution = z.strictObject({
  cohort: z.string(),
  generation: z.int(),
  epoch: z.int(),
  method: z.string(),
  ring_layout: z.string().nullable(),
  ranks: z.int(),
  /** Document tokens of each rank. */
  blocks: z.array(z.int()),
  anchor: z.int().nullable(),
  passing: z.int(),
  select: z.string().nullable(),
  /** Apb alone; absent in what an older version made: all. */
  anchor_query: z.string().optional(),
  backend: z.string(),
  /** What the ranks exchanged through: `solo`, `tcp` or `nccl`; absent in what an older version made. */
  comm: z.string().optional(),
  version: z.string(),
  prefill_seconds: z.number(),
  decode_seconds: z.number(),
});
export type Execution = z.infer<typeof execution>;

/** Return value of a `documents` job: BullMQ hands it to the parent atomically with completion. */
export const itemResult = z.strictObject({
  execution,
  requests: z.array(
    z.strictObject({
      ordinal: z.int().min(0),
      answers: z.array(answer),
      usage: tokenUsage,
    }),
  ),
  /** For people; kept beside the outcomes, which carry no clock. */
  timeline: itemTimeline.optional(),
});
export type ItemResult = z.infer<typeof itemResult>;

/** How a work item ended a cohort. */
export const engineDeath = z.strictObject({
  cohort: z.string(),
  generation: z.string(),
  epoch: z.int(),
  /** Unix seconds at which it was noticed: of a cohort that vanished whole, at the next claim. */
  at: z.int(),
  /** The rank at fault; null: not known. */
  rank: z.int().nullable(),
  /** `prepare`, `prefill` or `decode`, as last reported; null: not known. */
  phase: z.string().nullable(),
  code: z.string(),
  message: z.string(),
});
export type EngineDeath = z.infer<typeof engineDeath>;

/**
 * `failedReason` of a `documents` job, as JSON: why no request of the item has an answer.
 * `cancelled` and `expired` are ends of their own, not errors.
 */
export const itemFailure = z.strictObject({
  end: z.enum(['failed', 'cancelled', 'expired']),
  code: z.string(),
  message: z.string(),
  /** Of code POISON: the cohorts that it ended, oldest first. */
  history: z.array(engineDeath).max(10).optional(),
});
export type ItemFailure = z.infer<typeof itemFailure>;

/** Progress value of a `documents` job. Readers drop values of a lower epoch than one seen before. */
export const itemProgress = z.strictObject({
  epoch: z.int(),
  phase: z.enum(['prepare', 'prefill', 'decode']),
  /** Layers in prefill, questions in decode. */
  done: z.number(),
  total: z.number(),
  document_tokens: z.int(),
});
export type ItemProgress = z.infer<typeof itemProgress>;
