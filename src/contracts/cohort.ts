import { z } from 'zod';

/** Where a rank is: the protocol's phases, and what the engine does while it runs. */
export const rankPhase = z.enum([
  'forming',
  'ready',
  'preparing',
  'prefill',
  'decode',
  'aborting',
  'leaving',
]);

/** A rank's heartbeat. Others judge only whether it changes; the rest is for people. */
export const rankReport = z.strictObject({
  /** Counts the beats of this process. */
  beat: z.int(),
  /** Unix milliseconds, on the rank's own clock. */
  at: z.int(),
  phase: rankPhase,
  batch: z.string().nullable(),
  item: z.int().nullable(),
  /** Layers in prefill, questions in decode. */
  done: z.int(),
  total: z.int(),
  usage: z.strictObject({
    /** `cpu`, or the GPU's name. */
    device: z.string(),
    /** Bytes: of this process on a CPU, of the whole device on a GPU. Null: not known. */
    memory_used: z.number().nullable(),
    memory_total: z.number().nullable(),
    /** 0 to 1: of this rank's threads, or of the GPU. */
    busy: z.number().nullable(),
  }),
});
export type RankReport = z.infer<typeof rankReport>;
export type RankUsage = RankReport['usage'];

export const cohortState = z.object({
  state: z.enum(['FORMING', 'READY', 'RUNNING', 'DRAINING', 'ABORTED', 'CLOSED']),
  generation: z.string(),
  ranks: z.coerce.number().int(),
  backend: z.string(),
  model: z.string(),
  /** Unix milliseconds. */
  updated_at: z.coerce.number(),
});
export type CohortState = z.infer<typeof cohortState>;
