/** Checked and staged requests to a manifest and its work items; pure but for the clock and a drawn id. */
import { createHash, randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import { canonicalJson } from '../batch/canonical.js';
import type { Manifest, ManifestHeader, ManifestRequest, ModelDigests } from '../contracts/manifest.js';
import type { RunOptions } from '../contracts/request.js';
import type { WorkItem } from '../contracts/work-item.js';
import type { ParsedRequest } from './parse-input.js';
import { planItems } from './plan-items.js';
import type { StagedDocument } from './stage-documents.js';

/** A request with its queries as token ids and its document staged. */
export interface Resolved {
  request: ParsedRequest;
  queries: number[][];
  document: StagedDocument;
}

export function buildBatch(
  input: { file: string; isNew?: boolean; expiresHours?: number },
  resolved: readonly Resolved[],
  options: RunOptions,
  digests: ModelDigests,
): { manifest: Manifest; items: WorkItem[] } {
  const plan = planItems(
    resolved.map(({ request, document }) => ({
      documentSha256: document.sha256,
      questions: request.questions,
      max_tokens: request.max_tokens,
    })),
  );
  const itemOf = new Map(
    plan.flatMap((ordinals, item) => ordinals.map((ordinal) => [ordinal, item] as const)),
  );
  const requests = resolved.map(({ request, document }, ordinal): ManifestRequest => ({
    ordinal,
    custom_id: request.custom_id,
    item: itemOf.get(ordinal) ?? 0,
    document,
    questions: request.questions,
    max_tokens: request.max_tokens,
    temperature: request.temperature,
    seed: request.seed,
    metadata: request.metadata,
  }));
  const batch_id = batchId(input.isNew === true ? undefined : { requests, options, digests });
  const created_at = Math.floor(Date.now() / 1000);
  const expires_at =
    input.expiresHours === undefined ? null : created_at + Math.ceil(input.expiresHours * 3600);
  const items = plan.map((ordinals, index): WorkItem => {
    const members = ordinals.flatMap((ordinal) => {
      const found = resolved[ordinal];
      return found === undefined ? [] : [{ ordinal, ...found }];
    });
    const document = members[0]?.document;
    if (document === undefined) throw new Error(`work item ${index} is empty`);
    return {
      format: 'longhaul-item/1',
      batch_id,
      index,
      document,
      options,
      digests,
      expires_at,
      requests: members.map(({ ordinal, request, queries }) => ({
        ordinal,
        custom_id: request.custom_id,
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        seed: request.seed,
        questions: request.questions.map((text, i) => ({ text, query: queries[i] ?? [] })),
      })),
    };
  });
  const header: ManifestHeader = {
    format: 'longhaul-manifest/1',
    batch_id,
    created_at,
    expires_at,
    input: basename(input.file),
    options,
    digests,
    totals: {
      requests: requests.length,
      questions: requests.reduce((sum, { questions }) => sum + questions.length, 0),
      documents: new Set(requests.map(({ document }) => document.sha256)).size,
      items: items.length,
    },
    retry_of: null,
  };
  return { manifest: { header, requests }, items };
}

/** Undefined content draws one. */
function batchId(content: object | undefined): string {
  const hex =
    content === undefined
      ? randomBytes(16).toString('hex')
      : createHash('sha256').update(canonicalJson(content)).digest('hex').slice(0, 32);
  return `batch_${hex}`;
}
