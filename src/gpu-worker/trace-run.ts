import { basename } from 'node:path';
import type { ItemResult } from '../contracts/work-item.js';
import type { PastSpan } from '../platform/tracing.js';

/**
 * The run of an item as steps of its trace, from its timeline: every rank's prefill and decode, in the lengths that they
 * measured by their own clocks. Where questions took several prefills, the parts stand one after the other.
 */
export function stepsOfRun(modelDir: string, { execution, requests, timeline }: ItemResult): PastSpan[] {
  if (timeline === undefined) return [];
  const { claimed_at, prepared_at, finished_at, ranks } = timeline;
  const { cohort, generation, epoch, method, backend } = execution;
  const run = { 'longhaul.cohort': cohort, 'longhaul.generation': generation, 'longhaul.epoch': epoch };
  const model = basename(modelDir);
  const sum = (of: (request: ItemResult['requests'][number]) => number) =>
    requests.reduce((total, request) => total + of(request), 0);
  const finishes = new Set(requests.flatMap(({ answers }) => answers.map(({ finish }) => finish)));
  const steps = ranks.flatMap(({ rank, prefill, decode, phases }): PastSpan[] => {
    const prefilled = prepared_at + prefill;
    const parts = Object.entries(phases ?? {}).map(([name, ms]) => [`longhaul.prefill.${name}_ms`, ms]);
    const own = { 'longhaul.rank': rank };
    return [
      {
        name: 'prefill',
        start: prepared_at,
        end: prefilled,
        attributes: { ...own, ...(Object.fromEntries(parts) as Record<string, number>) },
      },
      { name: 'decode', start: prefilled, end: prefilled + decode, attributes: own },
    ];
  });
  return [
    { name: 'prepare', start: claimed_at, end: prepared_at, attributes: run },
    {
      name: `chat ${model}`,
      start: prepared_at,
      end: finished_at,
      attributes: {
        'gen_ai.operation.name': 'chat',
        'gen_ai.provider.name': 'longhaul',
        'gen_ai.request.model': model,
        'gen_ai.response.finish_reasons': [...finishes],
        // The document once: it was read once.
        'gen_ai.usage.input_tokens':
          (requests[0]?.usage.document_tokens ?? 0) + sum(({ usage }) => usage.query_tokens),
        'gen_ai.usage.output_tokens': sum(({ usage }) => usage.answer_tokens),
        'longhaul.method': method,
        'longhaul.backend': backend,
        'longhaul.ranks': execution.ranks,
        ...run,
      },
      children: steps,
    },
  ];
}
