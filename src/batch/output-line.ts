import { createHash } from 'node:crypto';
import type { ManifestHeader, ManifestRequest } from '../contracts/manifest.js';
import type { Outcome } from '../contracts/outcome.js';
import { canonicalJson } from './canonical.js';
import { encodeOutcome } from './outcomes.js';

/** OpenAI's codes for what is no error of the request. */
const CODES = { expired: 'batch_expired', cancelled: 'batch_cancelled' } as const;

/**
 * A request's line in `output.jsonl` or `error.jsonl`, in the style of its input line: the outcome,
 * or what OpenAI's Batch API writes. Pure: ids are hashes, `created` is the batch's creation.
 */
export function encodeOutputLine(
  { batch_id, created_at }: Pick<ManifestHeader, 'batch_id' | 'created_at'>,
  { chat_model: model }: Pick<ManifestRequest, 'chat_model'>,
  outcome: Outcome,
): Buffer {
  if (model === undefined) return encodeOutcome(outcome);
  const { ordinal, custom_id, answers, status, error } = outcome;
  const hash = createHash('sha256').update(`${batch_id} ${ordinal}`).digest('hex').slice(0, 32);
  const id = `batch_req_${hash}`;
  const [answer] = answers;
  if (answer === undefined) {
    const code = status === 'expired' || status === 'cancelled' ? CODES[status] : (error?.code ?? 'FAILED');
    const line = { id, custom_id, response: null, error: { code, message: error?.message ?? status } };
    return Buffer.from(canonicalJson(line) + '\n');
  }
  const prompt_tokens = (outcome.usage?.document_tokens ?? 0) + (outcome.usage?.query_tokens ?? 0);
  const completion_tokens = outcome.usage?.answer_tokens ?? answer.tokens;
  const body = {
    id: `chatcmpl-${hash}`,
    object: 'chat.completion',
    created: created_at,
    model,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: answer.text, refusal: null },
        logprobs: null,
        finish_reason: answer.finish,
      },
    ],
    usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
  };
  const response = { status_code: 200, request_id: `req_${hash}`, body };
  return Buffer.from(canonicalJson({ id, custom_id, response, error: null }) + '\n');
}
