import type { BatchStatus } from '../contracts/status.js';

/**
 * `2011 tokens of documents, 9 of questions, 6 of answers; 9.0 GPU seconds`. A document counts once for each time
 * it was run. Null: nothing was run, or an older version kept no totals.
 */
export function describeTotals({ usage, work }: Pick<BatchStatus, 'usage' | 'work'>): string | null {
  if (usage === null || work === null || work.documents === 0) return null;
  const { gpu, cpu } = work.rank_seconds;
  const seconds = [
    ...(gpu > 0 ? [`${gpu.toFixed(1)} GPU seconds`] : []),
    ...(cpu > 0 || gpu === 0 ? [`${cpu.toFixed(1)} rank seconds on CPUs`] : []),
  ];
  const tokens = `${work.document_tokens} tokens of documents, ${usage.query_tokens} of questions, ${usage.answer_tokens} of answers`;
  return `${tokens}; ${seconds.join(', ')}`;
}
