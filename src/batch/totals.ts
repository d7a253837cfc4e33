/**
 * What a batch's outcomes used, summed. Each sum is a function of the outcomes alone: Redis keeps them under way, beside
 * the counts and by the same rule (each ordinal once), and the finaliser adds them up anew from S3.
 */
import type { Outcome } from '../contracts/outcome.js';
import type { BatchWork, TokenUsage } from '../contracts/totals.js';
import type { BatchIndex } from './manifest.js';

/** Whole numbers, so that what was added can be taken away again; also the names of their fields in Redis. */
export const TOTALS = [
  'ended_documents',
  'document_tokens',
  'query_tokens',
  'answer_tokens',
  'run_documents',
  'run_tokens',
  'run_gpu_ms',
  'run_cpu_ms',
] as const;
export type Totals = Record<(typeof TOTALS)[number], number>;

export const noTotals = (): Totals => Object.fromEntries(TOTALS.map((name) => [name, 0])) as Totals;

/** What one outcome adds. For its work item, whose requests end together, the first of them speaks. */
export function totalsOf({ requests, items }: BatchIndex, outcome: Outcome): Totals {
  const totals = { ...noTotals(), ...outcome.usage };
  const { ordinal, execution, usage } = outcome;
  const item = requests[ordinal]?.item ?? -1;
  if (items[item]?.[0]?.ordinal !== ordinal) return totals;
  totals.ended_documents = 1;
  if (execution === null) return totals;
  const seconds = execution.ranks * (execution.prefill_seconds + execution.decode_seconds);
  totals.run_documents = 1;
  totals.run_tokens = usage?.document_tokens ?? execution.blocks.reduce((sum, tokens) => sum + tokens, 0);
  totals[execution.backend.startsWith('cuda') ? 'run_gpu_ms' : 'run_cpu_ms'] = Math.round(seconds * 1000);
  return totals;
}

export function addTotals(sum: Totals, more: Totals): void {
  for (const name of TOTALS) sum[name] += more[name];
}

/** As they are told. */
export function describeTotals(totals: Totals): { usage: TokenUsage; work: BatchWork } {
  const { document_tokens, query_tokens, answer_tokens } = totals;
  return {
    usage: { document_tokens, query_tokens, answer_tokens },
    work: {
      documents: totals.run_documents,
      document_tokens: totals.run_tokens,
      rank_seconds: { gpu: totals.run_gpu_ms / 1000, cpu: totals.run_cpu_ms / 1000 },
    },
  };
}

/** Back from how `_SUCCESS` tells them. */
export function totalsFrom(usage: TokenUsage, work: BatchWork): Omit<Totals, 'ended_documents'> {
  return {
    ...usage,
    run_documents: work.documents,
    run_tokens: work.document_tokens,
    run_gpu_ms: Math.round(work.rank_seconds.gpu * 1000),
    run_cpu_ms: Math.round(work.rank_seconds.cpu * 1000),
  };
}
