/** Requests to work items; pure. */
import { MAX_ANSWER_TOKENS_PER_ITEM, MAX_QUESTIONS_PER_ITEM } from '../contracts/request.js';
import { MAX_QUESTION_BYTES_PER_ITEM } from './check-line.js';

export interface PlannedRequest {
  documentSha256: string;
  /** How many, and their bytes as `questionBytes` counts them. */
  questions: number;
  questionBytes: number;
  max_tokens: number;
}

/**
 * Groups requests (named by their ordinals) so that one prefill serves many questions: same
 * document, at most 64 questions, and bounded answer tokens and question bytes, which bound the
 * job's return value. A request is never split; run options are the batch's, so they do not
 * divide. Items are ordered by their first request.
 */
export function planItems(requests: readonly PlannedRequest[]): number[][] {
  const items: number[][] = [];
  const open = new Map<
    string,
    { ordinals: number[]; questions: number; answerTokens: number; bytes: number }
  >();
  requests.forEach((request, ordinal) => {
    const { questions, questionBytes: bytes } = request;
    const answerTokens = questions * request.max_tokens;
    let item = open.get(request.documentSha256);
    if (
      item === undefined ||
      item.questions + questions > MAX_QUESTIONS_PER_ITEM ||
      item.answerTokens + answerTokens > MAX_ANSWER_TOKENS_PER_ITEM ||
      item.bytes + bytes > MAX_QUESTION_BYTES_PER_ITEM
    ) {
      item = { ordinals: [], questions: 0, answerTokens: 0, bytes: 0 };
      open.set(request.documentSha256, item);
      items.push(item.ordinals);
    }
    item.ordinals.push(ordinal);
    item.questions += questions;
    item.answerTokens += answerTokens;
    item.bytes += bytes;
  });
  return items;
}
