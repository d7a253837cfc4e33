import { z } from 'zod';
import { rankTimes } from '../contracts/timeline.js';

/**
 * Names one start of one work item on one cohort. `run` counts the starts of this generation, so it
 * orders them; `epoch` is BullMQ's `attemptsStarted`, which orders the starts of one item over all
 * cohorts and generations.
 */
export const ticket = z.strictObject({
  run: z.int().min(1),
  batch: z.string().min(1),
  item: z.int().min(0),
  epoch: z.int().min(1),
});
export type Ticket = z.infer<typeof ticket>;

/** Why a rank could not prepare or run an item. `document`: final for the item. */
export const failure = z.strictObject({
  kind: z.enum(['document', 'infrastructure']),
  code: z.string(),
  message: z.string(),
});
export type Failure = z.infer<typeof failure>;

/** How a rank's part of a run ended with the communicator still whole. */
export const runEnd = z.union([z.enum(['done', 'stopped']), failure]);
export type RunEnd = z.infer<typeof runEnd>;

/** Why a cohort is given up. `rank` is the one at fault, where known. */
export const abortCause = z.strictObject({
  code: z.string(),
  message: z.string(),
  rank: z.int().nullable(),
});
export type AbortCause = z.infer<typeof abortCause>;

const body = z.discriminatedUnion('type', [
  // Leader to followers.
  z.strictObject({ type: z.literal('prepare'), ticket }),
  z.strictObject({ type: z.literal('go'), ticket }),
  z.strictObject({ type: z.literal('release'), ticket }),
  z.strictObject({ type: z.literal('close') }),
  // Followers to leader.
  z.strictObject({ type: z.literal('ready') }),
  z.strictObject({ type: z.literal('prepared'), ticket }),
  z.strictObject({ type: z.literal('refused'), ticket, failure }),
  z.strictObject({ type: z.literal('finished'), ticket, end: runEnd, times: rankTimes.optional() }),
  z.strictObject({ type: z.literal('leaving') }),
  // Both ways.
  z.strictObject({ type: z.literal('abort'), cause: abortCause }),
]);
export type Body = z.infer<typeof body>;

/** What travels on a cohort's Redis streams: generation and sender with every message. */
export const message = z.strictObject({ generation: z.string().min(1), from: z.int().min(0), body });
export type Message = z.infer<typeof message>;
