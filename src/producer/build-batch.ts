/** Staged requests to a batch whose questions and queries stay in the spool. */
import { basename } from 'node:path';
import { contentDigest, requestLine, type BatchDraft } from '../batch/draft.js';
import type {
  Lane,
  ManifestHeader,
  ManifestRequest,
  ModelDigests,
  PartPlace,
} from '../contracts/manifest.js';
import type { RunOptions } from '../contracts/request.js';
import type { WorkItem } from '../contracts/work-item.js';
import type { RequestText } from './parse-input.js';
import { planItems } from './plan-items.js';
import type { QueriedRequest } from './encode-queries.js';
import type { Spool } from './spool.js';
import type { StagedDocument } from './stage-documents.js';

/** A request whose document is staged; or one of its parts, with an id of its own. */
export interface Resolved {
  request: QueriedRequest;
  document: StagedDocument;
  part?: PartPlace;
}

export interface BatchFacts {
  file: string;
  options: RunOptions;
  digests: ModelDigests;
  /** Seconds after its creation at which waiting work items end as expired. */
  windowSeconds?: number;
  /** Unix seconds; instead of `windowSeconds`. */
  expiresAt?: number;
  priority?: number;
  tenant?: string;
  then?: ManifestHeader['then'];
  lanes?: Lane[];
}

/** All of a batch but its id, which may be drawn or come from elsewhere. */
export interface BatchPlan {
  /** `contentDigest` of the batch. */
  content: string;
  totals: ManifestHeader['totals'];
  draft(batchId: string): BatchDraft;
}

export async function planBatch(
  spool: Spool,
  resolved: readonly Resolved[],
  { file, options, digests, windowSeconds, expiresAt, priority, tenant, then, lanes }: BatchFacts,
): Promise<BatchPlan> {
  const plan = planItems(
    resolved.map(({ request, document }) => ({ ...request, documentSha256: document.sha256 })),
  );
  const itemOf = new Uint32Array(resolved.length);
  plan.forEach((ordinals, item) => ordinals.forEach((ordinal) => (itemOf[ordinal] = item)));
  const keys = resolved.map(({ request: { custom_id }, document }, ordinal) => ({
    ordinal,
    custom_id,
    item: itemOf[ordinal] ?? 0,
    document,
  }));
  const at = (ordinal: number): Resolved => {
    const found = resolved[ordinal];
    if (found === undefined) throw new Error(`there is no request ${ordinal}`);
    return found;
  };

  async function readRequest(ordinal: number): Promise<ManifestRequest> {
    const { request, document, part } = at(ordinal);
    const text = (await spool.readValue(request.text)) as RequestText;
    return {
      ordinal,
      custom_id: request.custom_id,
      item: itemOf[ordinal] ?? 0,
      document,
      max_tokens: request.max_tokens,
      ...text,
      ...(part === undefined ? {} : { part }),
    };
  }

  async function readItemRequest(ordinal: number): Promise<WorkItem['requests'][number]> {
    const { request } = at(ordinal);
    const { questions, temperature, seed } = (await spool.readValue(request.text)) as RequestText;
    const queries = (await spool.readValue(request.queries)) as number[][];
    return {
      ordinal,
      custom_id: request.custom_id,
      max_tokens: request.max_tokens,
      temperature,
      seed,
      questions: questions.map((question, i) => ({ text: question, query: queries[i] ?? [] })),
    };
  }

  const digest = contentDigest({ options, digests, retry_of: null, then });
  for (const { ordinal } of keys) digest.update(requestLine(await readRequest(ordinal)));
  const totals = {
    requests: resolved.length,
    questions: resolved.reduce((sum, { request }) => sum + request.questions, 0),
    documents: new Set(resolved.map(({ document }) => document.sha256)).size,
    items: plan.length,
  };
  const content = digest.hex();
  const created_at = Math.floor(Date.now() / 1000);
  const expires_at = expiresAt ?? (windowSeconds === undefined ? null : created_at + windowSeconds);

  function draft(batch_id: string): BatchDraft {
    const header: ManifestHeader = {
      format: 'longhaul-manifest/1',
      batch_id,
      created_at,
      expires_at,
      input: basename(file),
      options,
      digests,
      totals,
      retry_of: null,
      priority,
      tenant,
      then,
      lanes,
    };
    const readItem = async (index: number): Promise<WorkItem> => {
      const ordinals = plan[index] ?? [];
      return {
        format: 'longhaul-item/1',
        batch_id,
        index,
        document: at(ordinals[0] ?? -1).document,
        options,
        digests,
        expires_at,
        requests: await Promise.all(ordinals.map(readItemRequest)),
      };
    };
    return { header, requests: keys, content, readRequest, readItem };
  }
  return { content, totals, draft };
}
