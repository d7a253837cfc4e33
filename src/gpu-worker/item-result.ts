import { itemResult, type Execution, type ItemResult } from '../contracts/work-item.js';
import type { ItemTimeline } from '../contracts/timeline.js';
import { DocumentError } from '../platform/errors.js';
import type { PreparedItem } from './prepare-item.js';
import type { RunOutput } from './run-item.js';

/** BullMQ hands the value on through Redis: it stays small. */
const MAX_RESULT_BYTES = 256 * 1024;

export type ExecutionFacts = Pick<
  Execution,
  'cohort' | 'generation' | 'epoch' | 'backend' | 'comm' | 'version'
>;

/** What the aggregator gets for an item that was run to its end. */
export async function buildResult(
  { item, blocks }: PreparedItem,
  output: RunOutput,
  facts: ExecutionFacts,
  decodeAnswer: (ids: readonly number[]) => Promise<string>,
  timeline?: ItemTimeline,
): Promise<ItemResult> {
  const requests = await Promise.all(
    item.requests.map(async (request, at) => {
      const own = output.decoded.filter(({ question }) => question.request === at);
      own.sort((a, b) => a.question.question - b.question.question);
      const answers = await Promise.all(
        own.map(async ({ question, tokens, finish }) => ({
          question: request.questions[question.question]?.text ?? '',
          text: await decodeAnswer([...tokens]),
          tokens: tokens.length,
          finish: finish === 'eos' ? ('stop' as const) : ('length' as const),
        })),
      );
      return {
        ordinal: request.ordinal,
        answers,
        usage: {
          document_tokens: item.document.tokens,
          query_tokens: own.reduce((sum, { question }) => sum + question.query.length, 0),
          answer_tokens: answers.reduce((sum, { tokens }) => sum + tokens, 0),
        },
      };
    }),
  );
  const { method, ring_layout, ranks, anchor, passing, select, anchor_query } = item.options;
  const result: ItemResult = {
    execution: {
      ...facts,
      method,
      ring_layout,
      ranks,
      blocks,
      anchor,
      passing,
      select,
      ...(anchor_query === undefined ? {} : { anchor_query }),
      prefill_seconds: round(output.prefillSeconds),
      decode_seconds: round(output.decodeSeconds),
    },
    requests,
    ...(timeline === undefined ? {} : { timeline }),
  };
  const bytes = Buffer.byteLength(JSON.stringify(itemResult.parse(result)));
  if (bytes > MAX_RESULT_BYTES) {
    throw new DocumentError(
      'ANSWERS_TOO_LARGE',
      `the item's answers take ${bytes} bytes and ${MAX_RESULT_BYTES} are allowed; lower max_tokens or ask fewer questions`,
    );
  }
  return result;
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
