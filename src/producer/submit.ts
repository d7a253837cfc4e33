/** An input file to a batch: check all, stage the documents, plan, create. */
import { basename } from 'node:path';
import { batchId } from '../batch/batch-id.js';
import { createBatchFrom } from '../batch/create.js';
import { keepDocuments } from '../batch/documents.js';
import { claimIdempotencyKey } from '../batch/idempotency.js';
import type { BatchDeps } from '../batch/queues.js';
import type { Lane, ManifestHeader } from '../contracts/manifest.js';
import type { RunOptions } from '../contracts/request.js';
import { choosePlan, type PlanFacts, type Policy } from '../plan/choose.js';
import { reach } from '../platform/test-points.js';
import { traced } from '../platform/tracing.js';
import { modelDigests } from '../text/model-digests.js';
import { readModelLimits } from '../text/model-limits.js';
import { modelName, takesRoles } from '../text/model-prompt.js';
import { queryRoom } from '../text/question-groups.js';
import type { Prompt } from '../text/prompt.js';
import type { SourcePolicy } from '../text/source-policy.js';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.js';
import { planBatch, type Resolved } from './build-batch.js';
import { encodeQueries, type QueriedRequest } from './encode-queries.js';
import { parseInput } from './parse-input.js';
import { checkModel, checkOptions, resolveOptions, type ChosenOptions } from './run-options.js';
import { partId } from './split.js';
import { Spool } from './spool.js';
import { stageDocuments, type StageProgress } from './stage-documents.js';

/** The planner's choice, for the longest document and what is known of the cohort. */
export interface AutoOptions {
  method: 'auto';
  ranks: number;
  policy: Policy;
  facts: PlanFacts;
}

export interface SubmitInput {
  file: string;
  /** Where documents may be read from. */
  policy: SourcePolicy;
  modelDir: string;
  headsFile?: string;
  options: ChosenOptions | AutoOptions;
  /** Shares of a block in place of the model's own, for an l_a or l_p that is not named. */
  shares?: Partial<Prompt['defaults']>;
  /** Draws a random id: another batch, whatever was submitted before. */
  isNew?: boolean;
  /** The batch's id, drawn by whoever promised it before the file was looked at. */
  id?: string;
  /** The same key with the same content is the same batch, also with `isNew`; with other content it is an error. */
  idempotencyKey?: string;
  /** Completion window: what still waits this long after the batch's creation ends as expired. */
  windowSeconds?: number;
  /** Unix seconds: the end of a window that began before the batch's creation; instead of `windowSeconds`. */
  expiresAt?: number;
  /** -100 to 100, higher runs first; default 0. */
  priority?: number;
  /** Batches of one tenant share its turns; default: the batch takes turns of its own. */
  tenant?: string;
  /** Where documents wait, by their length; default: all in one queue. */
  lanes?: Lane[];
  /** Accepts documents that the model cannot hold; their requests end as errors. */
  allowTooLong?: boolean;
  /** Splits documents that the model cannot hold; a second batch then asks about the parts' answers. */
  split?: {
    /** Tokens that a part has in common with the one before. */
    overlap: number;
    /** Of the second batch; null: each request's own. */
    question: string | null;
  };
  /** Called when every line is known to be good, before anything else is opened. */
  onParsed?: () => Promise<unknown>;
  onProgress?: (progress: StageProgress) => void;
  /** Work items written. */
  onItems?: (progress: { done: number; total: number }) => void;
  signal?: AbortSignal;
}

export interface Submitted {
  id: string;
  /** False: the same batch had been submitted before. */
  created: boolean;
  options: RunOptions;
  /** Of the planner, where the method was its choice. */
  why?: string;
  totals: ManifestHeader['totals'];
  /** Sum over distinct documents. */
  documentTokens: number;
  /** Of the batch as it stands: one that was submitted before keeps its own. */
  priority: number;
  expiresAt: number | null;
  /** The requests that were split. */
  split: { custom_id: string; parts: number }[];
}

/**
 * Submitting the same content, options and model twice is one batch: its id is their hash. Priority
 * and window are no part of that. Memory grows with the number of requests and documents, not with
 * their sizes.
 * @throws InputError listing what is wrong with the file; then nothing was enqueued.
 */
export async function submit(deps: BatchDeps, input: SubmitInput): Promise<Submitted> {
  if (input.options.method !== 'auto') checkOptions(input.options);
  return traced('submit', 'producer', {}, async (describe) => {
    const spool = await Spool.open();
    try {
      const submitted = await submitThrough(spool, deps, input);
      const { id, totals, documentTokens, options } = submitted;
      describe({
        'longhaul.batch.id': id,
        'longhaul.batch.requests': totals.requests,
        'longhaul.batch.documents': totals.documents,
        'longhaul.batch.document_tokens': documentTokens,
        'longhaul.method': options.method,
        'gen_ai.request.model': basename(input.modelDir),
      });
      return submitted;
    } finally {
      await spool.close();
    }
  });
}

async function submitThrough(spool: Spool, deps: BatchDeps, input: SubmitInput): Promise<Submitted> {
  const { file, policy, modelDir, priority, tenant, lanes, windowSeconds, expiresAt, signal } = input;
  const [model, roles] = await Promise.all([modelName(modelDir), takesRoles(modelDir)]);
  const parsed = await parseInput(file, spool, { model, roles, policy, signal });
  await input.onParsed?.();
  reach('checked');
  const [tokenizer, { maxPositions, queryHeads }, digests] = await Promise.all([
    loadTokenizer(modelDir),
    readModelLimits(modelDir),
    modelDigests(modelDir, input.headsFile, { signal }),
  ]);
  const hasRetainingHeads = digests.heads !== null;
  if (input.options.method !== 'auto') checkModel(input.options, { queryHeads, hasRetainingHeads });
  const requests = await encodeQueries(
    { file, spool, tokenizer },
    parsed,
    anchorRoom(input.options, tokenizer),
    signal,
  );
  // The last new token is never fed back, so it needs no position.
  const room = (request: QueriedRequest) => maxPositions - request.longestQuery - (request.max_tokens - 1);
  const { documents, parts, existing } = await stageDocuments({
    store: deps.store,
    tokenizer,
    file,
    policy,
    requests,
    room: input.allowTooLong === true ? () => Infinity : room,
    overlap: input.split?.overlap,
    onProgress: input.onProgress,
    signal,
  });
  await keepDocuments(deps, existing, signal);
  reach('staged');

  const split: Submitted['split'] = [];
  const resolved = requests.flatMap((request): Resolved[] => {
    const { key } = request.document;
    const document = documents.get(key);
    if (document === undefined) throw new Error(`document of line ${request.line} was not staged`);
    const staged = document.tokens > room(request) ? parts.get(key) : undefined;
    if (staged === undefined) return [{ request, document }];
    const { custom_id: of } = request;
    split.push({ custom_id: of, parts: staged.length });
    return staged.map(({ sha256, tokens, index, count, start, end }) => ({
      request: { ...request, custom_id: partId(of, index, count) },
      document: { sha256, tokens },
      part: { of, index, count, start, end },
    }));
  });
  const then = split.length > 0 && input.split ? { question: input.split.question } : undefined;
  const thenQuestion = then?.question ?? null;
  const thenQuery = thenQuestion === null ? [] : await tokenizer.encodeQuery(thenQuestion);
  // A document that will end as an error must not set the batch's l_a and l_p.
  const fitting = resolved.filter(({ request, document }) => document.tokens <= room(request));
  const longestDocument = fitting.reduce((most, { document }) => Math.max(most, document.tokens), 0);
  const longestQuery = requests.reduce((most, each) => Math.max(most, each.longestQuery), thenQuery.length);
  const { chosen, why } = choose(input.options, longestDocument, longestQuery);
  const options = resolveOptions(
    chosen,
    { ...tokenizer.prompt.defaults, ...input.shares },
    {
      longestDocument,
      longestQuery,
      hasRetainingHeads,
    },
  );
  const facts = { file, options, digests, windowSeconds, expiresAt, priority, tenant, then, lanes };
  const plan = await planBatch(spool, resolved, facts);
  const id = await chooseId(deps, input, plan.content);
  const { created, header } = await createBatchFrom(deps, plan.draft(id), {
    onProgress: input.onItems,
    signal,
  });
  const distinct = new Map(resolved.map(({ document }) => [document.sha256, document.tokens]));
  return {
    id,
    created,
    options,
    ...(why !== undefined && { why }),
    totals: plan.totals,
    documentTokens: [...distinct.values()].reduce((sum, tokens) => sum + tokens, 0),
    priority: header.priority ?? 0,
    expiresAt: header.expires_at,
    split,
  };
}

async function chooseId(
  deps: BatchDeps,
  { id, isNew, idempotencyKey, signal }: SubmitInput,
  content: string,
): Promise<string> {
  if (id !== undefined) return id;
  const own = batchId(isNew === true ? undefined : { content });
  return idempotencyKey === undefined
    ? own
    : claimIdempotencyKey(deps, idempotencyKey, { batchId: own, content }, signal);
}

/** Now, so that the manifest says what will run. */
function choose(
  options: SubmitInput['options'],
  longestDocument: number,
  longestQuery: number,
): { chosen: ChosenOptions; why?: string } {
  if (options.method !== 'auto') return { chosen: options };
  const { ranks, policy, facts } = options;
  const request = { tokens: Math.max(1, longestDocument), longestQuery, ranks: [ranks], policy };
  const { chosen, why } = choosePlan(facts, request);
  const { method, blocks, ring_layout, anchor, passing } = chosen;
  const sizes = method === 'apb' ? { anchor: anchor ?? 0, passing } : {};
  return { chosen: { method, ranks, blocks, ringLayout: ring_layout ?? undefined, ...sizes }, why };
}

/** A default l_a is made large enough for every query; one that was named is not. */
function anchorRoom(chosen: SubmitInput['options'], tokenizer: Tokenizer): { room: number; anchor: number } {
  if (chosen.method === 'auto' || chosen.anchor === undefined) return { room: Infinity, anchor: 0 };
  const { anchor } = chosen;
  const sizes = { longestDocument: 0, longestQuery: 0, hasRetainingHeads: false };
  const options = resolveOptions(chosen, tokenizer.prompt.defaults, sizes);
  return { room: queryRoom(options), anchor };
}
