import { z } from 'zod';

const seconds = z.int().min(0);

/** A few sentences: what stands across the end of a part stands whole in the next one. */
export const DEFAULT_OVERLAP = 256;

/** `schedules/<name>/schedule.json`: what a person asked for. Redis only holds the clockwork made from it. */
export const schedule = z.strictObject({
  format: z.literal('longhaul-schedule/1'),
  name: z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/),
  cron: z.string(),
  tz: z.string(),
  /** `s3://bucket/prefix/`. */
  input: z.string(),
  prompt: z.string().min(1),
  max_tokens: z.int().min(1),
  /** Tokens that the parts of a document beyond the model's length have in common. */
  overlap: z.int().min(0).default(DEFAULT_OVERLAP),
  /** Asked of the answers of a document's parts; null: `prompt` again. */
  then_prompt: z.string().min(1).nullable().default(null),
  /** Every document each time, not only those that are new or changed. */
  all: z.boolean(),
  /** `s3://bucket/prefix/` of digests; null: `digests/<name>/` in longhaul's own bucket. */
  out: z.string().nullable(),
  webhook: z.string().nullable(),
  priority: z.int().min(-100).max(100),
  paused: z.boolean(),
  /** Unix seconds: due times up to here are not caught up. Set by add and resume. */
  active_since: seconds,
});
export type Schedule = z.infer<typeof schedule>;

/** An object below the schedule's prefix, as a run found it. */
export const sourceDocument = z.strictObject({
  url: z.string(),
  etag: z.string(),
  bytes: z.int().min(0),
  modified_at: seconds,
});
export type SourceDocument = z.infer<typeof sourceDocument>;

/** `runs/<run>/run.json`: written once by whoever starts the run. */
export const runStart = z.strictObject({
  run: z.string(),
  cause: z.enum(['cron', 'manual']),
  created_at: seconds,
});
export type RunStart = z.infer<typeof runStart>;

/** `runs/<run>/plan.json`: what lay below the prefix, and which of it the run takes (places in `found`). */
export const runPlan = z.strictObject({ found: z.array(sourceDocument), chosen: z.array(z.int().min(0)) });
export type RunPlan = z.infer<typeof runPlan>;

/** `runs/<run>/batch.json`: its batch, and the documents that no batch can take. */
export const runBatch = z.strictObject({
  batch_id: z.string(),
  refused: z.array(z.strictObject({ url: z.string(), message: z.string() })),
  /** Documents that were too long for the model, and into how many parts they were split. */
  split: z.array(z.strictObject({ url: z.string(), parts: z.int().min(2) })).default([]),
});
export type RunBatch = z.infer<typeof runBatch>;

/** `runs/<run>/end.json`: how the run ended, written once. */
export const runEnd = z.strictObject({
  status: z.enum(['succeeded', 'failed']),
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  documents: z.int(),
  answered: z.int(),
  /** Documents without an answer: the next run takes them again. */
  unanswered: z.array(z.string()),
  digest: z.strictObject({ markdown: z.string(), jsonl: z.string() }).nullable(),
  ended_at: seconds,
});
export type RunEnd = z.infer<typeof runEnd>;

/** `runs/<run>/webhook.json`: whether the webhook took the news of a failure. */
export const runWebhook = z.strictObject({ delivered: z.boolean(), attempts: z.int(), detail: z.string() });
export type RunWebhook = z.infer<typeof runWebhook>;

/** On the queue `schedules`. A tick says that a schedule may be due; a run is to be moved on. */
export const scheduleJob = z.strictObject({ schedule: z.string(), run: z.string().optional() });
export type ScheduleJob = z.infer<typeof scheduleJob>;
