import { z } from 'zod';
import type { ManifestHeader, ManifestRequest } from '../contracts/manifest.js';
import { outcome, type Outcome } from '../contracts/outcome.js';
import { itemFailure, itemResult, type ItemFailure, type ItemResult } from '../contracts/work-item.js';
import { StoreError } from '../platform/errors.js';
import { canonicalJson } from './canonical.js';

/** How a work item ended: its child's value, or why there is none. */
export type ItemEnd = ItemResult | ItemFailure;

const isFailure = (end: ItemEnd): end is ItemFailure => 'end' in end;

/** The child's return value as it came through Redis; one that breaks the contract is a failure of the item. */
export function readChildValue(value: unknown): ItemEnd {
  const parsed = itemResult.safeParse(value);
  if (parsed.success) return parsed.data;
  return {
    end: 'failed',
    code: 'INVALID_RESULT',
    message: `the cohort returned a value that breaks the contract: ${z.prettifyError(parsed.error)}`,
  };
}

/** The child's `failedReason`: JSON written by a leader, or plain text from BullMQ or an unforeseen error. */
export function readChildFailure(reason: string): ItemFailure {
  try {
    return itemFailure.parse(JSON.parse(reason));
  } catch {
    return { end: 'failed', code: 'COHORT_FAILED', message: reason };
  }
}

/** One outcome for each of the item's requests, from nothing but its arguments. */
export function toOutcomes(
  header: Pick<ManifestHeader, 'batch_id'>,
  requests: readonly ManifestRequest[],
  end: ItemEnd,
): Outcome[] {
  return requests.map((request) => {
    const base = {
      format: 'longhaul-outcome/1' as const,
      batch_id: header.batch_id,
      ordinal: request.ordinal,
      custom_id: request.custom_id,
      metadata: request.metadata,
    };
    if (isFailure(end)) {
      const error = { code: end.code, message: end.message };
      return { ...base, status: end.end, answers: [], error, usage: null, execution: null };
    }
    const answered = end.requests.find(({ ordinal }) => ordinal === request.ordinal);
    if (answered === undefined || answered.answers.length !== request.questions.length) {
      const error = {
        code: 'INCOMPLETE_RESULT',
        message: `the cohort returned ${answered?.answers.length ?? 0} answers for ${request.questions.length} questions`,
      };
      return { ...base, status: 'failed', answers: [], error, usage: null, execution: end.execution };
    }
    return {
      ...base,
      status: 'answered',
      answers: answered.answers,
      error: null,
      usage: answered.usage,
      execution: end.execution,
    };
  });
}

/** One line, as it stands in the outcome's object and in `output.jsonl` or `error.jsonl`. */
export function encodeOutcome(value: Outcome): Buffer {
  return Buffer.from(canonicalJson(value) + '\n');
}

/** @throws StoreError `OUTCOME_CORRUPT` for an object that is not the outcome of this request. */
export function decodeOutcome(bytes: Buffer, batchId: string, ordinal: number): Outcome {
  let detail: string;
  try {
    const parsed = outcome.parse(JSON.parse(bytes.toString('utf8')));
    if (parsed.batch_id === batchId && parsed.ordinal === ordinal) return parsed;
    detail = `it is that of request ${parsed.ordinal} of batch ${parsed.batch_id}`;
  } catch (cause) {
    detail = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
  }
  throw new StoreError('OUTCOME_CORRUPT', `the outcome of request ${ordinal} of batch ${batchId}: ${detail}`);
}
