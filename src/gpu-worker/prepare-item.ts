/**
 * What every rank does before GO: read the work item, lay the document out, fetch the tokens that
 * this rank needs and no others, check them. No collective is started here.
 */
import { createHash } from 'node:crypto';
import type { ModelDigests } from '../contracts/manifest.js';
import { workItem, type WorkItem } from '../contracts/work-item.js';
import { DocumentError, InfrastructureError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { planBlocks, type Rates } from '../plan/blocks.js';
import { concat } from '../text/concat.js';
import { groupQuestions } from '../text/question-groups.js';
import type { Layout, LayoutRequest, ModelFacts } from './engine-like.js';

/** One question: its place in the item, and what the engine gets for it. */
export interface Question {
  request: number;
  question: number;
  query: Uint32Array;
  maxTokens: number;
  temperature: number;
  seed: number;
}

/** Questions that share one prefill. */
export interface Group {
  layout: LayoutRequest;
  /** The leading document tokens of the anchor; empty on rank 0. */
  head: Uint32Array;
  /** The queries as the anchor carries them; empty where it carries none. */
  query: Uint32Array;
  questions: Question[];
}

export interface PreparedItem {
  item: WorkItem;
  /** This rank's block of the document, and then its mirror. */
  block: Uint32Array;
  /** Document tokens of each rank. */
  blocks: number[];
  groups: Group[];
}

export interface PrepareContext {
  store: ObjectStore;
  rank: number;
  ranks: number;
  facts: ModelFacts;
  digests: ModelDigests;
  /** Of every rank, from the cohort's seal: all ranks plan with the same numbers. */
  rates: Rates[];
  planLayout: (request: LayoutRequest) => Layout;
}

const BYTES_PER_TOKEN = 4;

export async function prepareItem(
  context: PrepareContext,
  batch: string,
  index: number,
  signal: AbortSignal,
): Promise<PreparedItem> {
  const item = await readItem(context.store, batch, index, signal);
  checkFits(context, item);
  const questions = item.requests.flatMap((request, at) =>
    request.questions.map((question, number): Question => ({
      request: at,
      question: number,
      query: Uint32Array.from(question.query),
      maxTokens: request.max_tokens,
      temperature: request.temperature,
      seed: request.seed,
    })),
  );
  checkLengths(context, item, questions);
  const groups = groupQuestions(
    questions.map((question) => question.query),
    item.options,
  ).map((members) => members.map((at) => questions[at] as Question));
  const blocks = plannedBlocks(context, item);
  const carried = groups.map((group) =>
    concat(item.options.anchor_query === 'none' ? [] : group.map((q) => q.query)),
  );
  const layouts = carried.map((query) => layoutRequest(item, query.length, blocks));
  const plans = layouts.map((layout) => context.planLayout(layout));
  // Groups differ in their anchors alone.
  const pieces = piecesOf(plans[0]);
  const own = pieces[context.rank];
  if (own === undefined)
    throw new DocumentError('BAD_ITEM', `the layout has no block for rank ${context.rank}`);
  const heads = plans.map((plan) => (context.rank === 0 ? 0 : plan.anchorDocument));
  const [block, head] = await Promise.all([
    Promise.all(own.map(({ start, end }) => fetchTokens(context, item, start, end, signal))),
    fetchTokens(context, item, 0, Math.max(0, ...heads), signal),
    context.rank === 0 ? verifyDocument(context, item, signal) : undefined,
  ]);
  return {
    item,
    block: concat(block),
    blocks: pieces.map((parts) => parts.reduce((sum, { start, end }) => sum + end - start, 0)),
    groups: groups.map((members, at) => ({
      layout: layouts[at] as LayoutRequest,
      head: head.subarray(0, heads[at]),
      query: carried[at] as Uint32Array,
      questions: members,
    })),
  };
}

async function readItem(
  store: ObjectStore,
  batch: string,
  index: number,
  signal: AbortSignal,
): Promise<WorkItem> {
  const key = objectKeys.item(batch, index);
  const bytes = await store.get(key, signal);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new DocumentError('BAD_ITEM', `${store.url(key)} is not JSON`, { cause });
  }
  const parsed = workItem.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new DocumentError(
      'BAD_ITEM',
      `${store.url(key)} is not a work item (${issue?.path.join('.')}: ${issue?.message}); submit again with this version`,
    );
  }
  return parsed.data;
}

/** Another cohort may fit: the item goes back. It is never run another way than it asks for. */
function checkFits({ ranks, digests }: PrepareContext, { options, digests: wanted }: WorkItem): void {
  if (options.ranks !== ranks) {
    throw new InfrastructureError(
      'RANKS_MISMATCH',
      `the item asks for ${options.ranks} ranks and this cohort has ${ranks}; start a cohort of ${options.ranks}`,
    );
  }
  for (const part of ['model', 'tokenizer', 'heads'] as const) {
    if (wanted[part] !== digests[part]) {
      throw new InfrastructureError(
        'MODEL_MISMATCH',
        `the item asks for ${part} ${wanted[part]?.slice(0, 12) ?? 'none'} and this cohort has ${digests[part]?.slice(0, 12) ?? 'none'}; start a cohort with that model`,
      );
    }
  }
}

function checkLengths({ facts }: PrepareContext, item: WorkItem, questions: Question[]): void {
  for (const { query, maxTokens, request } of questions) {
    // The last new token is never fed back, so it needs no position. 0: the model names no limit.
    const needed = item.document.tokens + query.length + maxTokens - 1;
    if (facts.maxPositions > 0 && needed > facts.maxPositions) {
      throw new DocumentError(
        'TOO_LONG',
        `${item.requests[request]?.custom_id}: document, question and answer need ${needed} positions and the model has ${facts.maxPositions}; shorten the document or lower max_tokens`,
      );
    }
  }
}

/** Undefined: even blocks. */
function plannedBlocks({ rates }: PrepareContext, { options, document }: WorkItem): number[] | undefined {
  return options.blocks === 'balanced' ? planBlocks(options, document.tokens, rates) : undefined;
}

/** The document ranges of each rank, in the order in which it holds them. */
function piecesOf(plan: Layout | undefined): { start: number; end: number }[][] {
  return (plan?.blocks ?? []).map((block, rank) => {
    const mirror = plan?.mirrors[rank];
    return mirror === undefined || mirror.end === mirror.start ? [block] : [block, mirror];
  });
}

function layoutRequest(
  { document, options }: WorkItem,
  queryTokens: number,
  blocks: number[] | undefined,
): LayoutRequest {
  return {
    method: options.method,
    ranks: options.ranks,
    documentTokens: document.tokens,
    queryTokens,
    anchorLength: options.anchor ?? undefined,
    passingLength: options.passing,
    ringLayout: options.ring_layout ?? undefined,
    blocks,
  };
}

async function fetchTokens(
  { store, facts }: PrepareContext,
  { document }: WorkItem,
  start: number,
  end: number,
  signal: AbortSignal,
): Promise<Uint32Array> {
  const key = objectKeys.document(document.sha256);
  const bytes = await store.getRange(key, start * BYTES_PER_TOKEN, end * BYTES_PER_TOKEN, signal);
  const tokens = new Uint32Array(end - start);
  for (let i = 0; i < tokens.length; i++) {
    const token = bytes.readUInt32LE(i * BYTES_PER_TOKEN);
    if (token >= facts.vocabulary) {
      throw new DocumentError(
        'BAD_DOCUMENT',
        `${store.url(key)} holds the token ${token} at ${start + i}, and the vocabulary has ${facts.vocabulary}; the object is damaged`,
      );
    }
    tokens[i] = token;
  }
  return tokens;
}

/**
 * The whole document against its name, on rank 0 alone: 4 MB for a million tokens, little beside
 * their prefill, and damaged bytes would otherwise be answered about as if they were the document.
 */
async function verifyDocument(
  { store }: PrepareContext,
  { document, digests }: WorkItem,
  signal: AbortSignal,
): Promise<void> {
  const key = objectKeys.document(document.sha256);
  const bytes = await store.get(key, signal);
  const found = createHash('sha256').update(digests.tokenizer).update(bytes).digest('hex');
  if (bytes.byteLength === document.tokens * BYTES_PER_TOKEN && found === document.sha256) return;
  throw new DocumentError(
    'BAD_DOCUMENT',
    `${store.url(key)} has ${bytes.byteLength} bytes with the hash ${found.slice(0, 12)}, and ${document.tokens} tokens with ${document.sha256.slice(0, 12)} are expected; submit the document again`,
  );
}
