import { POISON } from '../batch/dead.js';
import type { ItemEnd } from '../batch/outcomes.js';
import type { Outcome, OutcomeStatus } from '../contracts/outcome.js';
import {
  deadItems,
  documentsEnded,
  queueTime,
  requestsEnded,
  serverDuration,
  tokensEnded,
} from '../platform/metrics.js';

/** Counts one work item whose outcomes are in S3; `queuedAt` in Unix milliseconds. */
export function measureEnd(
  end: ItemEnd | undefined,
  outcomes: readonly Pick<Outcome, 'status' | 'usage'>[],
  queuedAt: number,
): void {
  const found = new Set(outcomes.map(({ status }) => status));
  const order: OutcomeStatus[] = ['answered', 'failed', 'cancelled', 'expired'];
  const document = order.find((status) => found.has(status)) ?? 'failed';
  documentsEnded.inc({ outcome: document });
  if (end !== undefined && 'end' in end && end.code === POISON) deadItems.inc();
  for (const { status, usage } of outcomes) {
    requestsEnded.inc({ outcome: status });
    if (usage === null) continue;
    tokensEnded.inc({ gen_ai_token_type: 'input', outcome: status }, usage.query_tokens);
    tokensEnded.inc({ gen_ai_token_type: 'output', outcome: status }, usage.answer_tokens);
  }
  const tokens = outcomes.find(({ usage }) => usage !== null)?.usage?.document_tokens ?? 0;
  tokensEnded.inc({ gen_ai_token_type: 'input', outcome: document }, tokens);
  queueTime.observe(Math.max(0, Date.now() - queuedAt) / 1000);
  if (end === undefined || !('execution' in end)) return;
  const { prefill_seconds, decode_seconds } = end.execution;
  const labels = { gen_ai_operation_name: 'chat', gen_ai_provider_name: 'longhaul' };
  serverDuration.observe(labels, prefill_seconds + decode_seconds);
}
