import { z } from 'zod';

/** Tokens as their requests are charged: a document counts for each request about it. */
export const tokenUsage = z.strictObject({
  document_tokens: z.int(),
  query_tokens: z.int(),
  answer_tokens: z.int(),
});
export type TokenUsage = z.infer<typeof tokenUsage>;

/** What was computed for a batch's outcomes: each work item once, by the run whose answers stand. */
export const batchWork = z.strictObject({
  /** Work items that were run to their end. */
  documents: z.int(),
  /** Their documents' tokens, each once. */
  document_tokens: z.int(),
  /** Ranks times seconds of prefill and decode. One rank has one GPU, so `gpu` is GPU seconds; `cpu` is of ranks without. */
  rank_seconds: z.strictObject({ gpu: z.number(), cpu: z.number() }),
});
export type BatchWork = z.infer<typeof batchWork>;
