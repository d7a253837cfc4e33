import { z } from 'zod';

/** Milliseconds of one rank's part of a run, on its own clock. */
export const rankTimes = z.strictObject({
  rank: z.int(),
  prepare: z.number(),
  prefill: z.number(),
  decode: z.number(),
  /** Of the prefill, all layers together, by the engine's names (qkv, attention, ...); null: not measured. */
  phases: z.record(z.string(), z.number()).nullable(),
});
export type RankTimes = z.infer<typeof rankTimes>;

/** How a work item came to its answers; times are Unix milliseconds on the leader's clock. */
export const itemTimeline = z.strictObject({
  queued_at: z.int(),
  claimed_at: z.int(),
  /** All ranks had their part of the document. */
  prepared_at: z.int(),
  finished_at: z.int(),
  ranks: z.array(rankTimes),
});
export type ItemTimeline = z.infer<typeof itemTimeline>;
