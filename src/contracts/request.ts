import { z } from 'zod';

/** At most this many questions share one prefill's work item (and one BullMQ job). */
export const MAX_QUESTIONS_PER_ITEM = 64;
/** The answer tokens that one work item may produce: keeps a job's return value under 256 KB. */
export const MAX_ANSWER_TOKENS_PER_ITEM = 16_384;

export const FORMATS = ['text', 'markdown', 'html'] as const;
export type DocumentFormat = (typeof FORMATS)[number];
const format = z.enum(FORMATS).optional();

/** Schemes of `url` sources, each with something after it. */
export const DOCUMENT_URL = /^(s3:\/\/[^/]+\/.+|https?:\/\/[^/?#]+.*)$/s;

/** Where a document's text comes from: inline, a file beside the input file, an object in S3, or the web. */
export const documentSource = z.union([
  z.string().min(1, 'the document is empty'),
  z.strictObject({ path: z.string().min(1), format }),
  z.strictObject({ url: z.string().regex(DOCUMENT_URL, 'must be s3://bucket/key or https://...'), format }),
]);

const maxTokens = z.int().min(1).max(4096);
/** 0 is greedy decoding. */
const temperature = z.number().min(0).max(2);
const seed = z.int().min(0);
const metadata = z.record(z.string().max(64), z.string().max(512));

/** One line of an input file. Unknown fields are errors: a typo must not become a default. */
export const requestLine = z
  .strictObject({
    custom_id: z.string().min(1).max(256),
    document: documentSource,
    question: z.string().min(1).optional(),
    questions: z.array(z.string().min(1)).min(1).max(MAX_QUESTIONS_PER_ITEM).optional(),
    max_tokens: maxTokens.default(64),
    temperature: temperature.default(0),
    seed: seed.default(0),
    metadata: metadata.optional(),
  })
  .refine((r) => (r.question === undefined) !== (r.questions === undefined), {
    path: ['question'],
    error: 'give exactly one of "question" and "questions"',
  });
export type RequestLine = z.infer<typeof requestLine>;

export const ROLES = ['system', 'developer', 'user', 'assistant'] as const;
export type ChatRole = (typeof ROLES)[number];

/** What longhaul has of the body of OpenAI's `/v1/chat/completions`, beside `messages`. */
export const chatBody = z.strictObject({
  model: z.string().min(1),
  max_tokens: maxTokens.optional(),
  max_completion_tokens: maxTokens.optional(),
  temperature: temperature.optional(),
  seed: seed.optional(),
  metadata: metadata.optional(),
});

export const METHODS = ['full', 'ring', 'ulysses', 'star', 'apb'] as const;
export const RING_LAYOUTS = ['contiguous', 'zigzag'] as const;
export const BLOCKS = ['even', 'balanced'] as const;
/** By retaining heads, by the query's own attention (training-free, Spava), or by chance (an ablation). */
export const SELECTS = ['heads', 'spava', 'random'] as const;
/**
 * The questions that an anchor carries: `all` that fit half of it, so that they share a prefill; `one`, with a prefill
 * of its own; or `none`, so that one prefill serves every question.
 */
export const ANCHOR_QUERIES = ['all', 'one', 'none'] as const;

/** How a batch is run. Fixed at submission, part of the batch's identity. */
export const runOptions = z.strictObject({
  method: z.enum(METHODS),
  ranks: z.int().min(1).max(64),
  /** l_a in tokens; null: star takes the block's length. */
  anchor: z.int().min(0).nullable(),
  /** l_p in tokens per passing block and KV head. */
  passing: z.int().min(0),
  /** Ring alone. */
  ring_layout: z.enum(RING_LAYOUTS).nullable(),
  /** How the document is cut: into equal lengths, or into what the cohort's measured rates balance. */
  blocks: z.enum(BLOCKS),
  /** How passing rows are chosen, apb alone. */
  select: z.enum(SELECTS).nullable(),
  /** Apb alone; absent in what an older version made: all. */
  anchor_query: z.enum(ANCHOR_QUERIES).optional(),
});
export type RunOptions = z.infer<typeof runOptions>;
