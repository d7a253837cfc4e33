import { mapConcurrently } from '../batch/concurrency.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { ParsedRequest, RequestText } from './parse-input.js';
import { TemplateError } from '../text/render-template.js';
import { Problems } from './problems.js';
import type { Place, Spool } from './spool.js';

/** A request whose queries are token ids, in the spool. */
export interface QueriedRequest extends ParsedRequest {
  queries: Place;
  /** In tokens. */
  longestQuery: number;
}

const LANES = 8;

/**
 * Questions to query ids. `room`: the most tokens that one query may have, for an anchor of `anchor` tokens.
 * @throws InputError naming the questions that are longer.
 */
export async function encodeQueries(
  { file, spool, tokenizer }: { file: string; spool: Spool; tokenizer: Tokenizer },
  requests: readonly ParsedRequest[],
  { room, anchor }: { room: number; anchor: number },
  signal?: AbortSignal,
): Promise<QueriedRequest[]> {
  const problems = new Problems();
  const encode = async (request: ParsedRequest): Promise<QueriedRequest> => {
    const { questions } = (await spool.readValue(request.text)) as RequestText;
    const { document } = request;
    const roles = document.kind === 'inline' ? document.roles : undefined;
    const encodeOne = (question: string) =>
      roles && tokenizer.conversation
        ? tokenizer.conversation.encodeQuery(roles, question)
        : tokenizer.encodeQuery(question);
    let queries: number[][];
    try {
      queries = await Promise.all(questions.map(encodeOne));
    } catch (error) {
      if (!(error instanceof TemplateError && roles)) throw error;
      problems.add({ line: request.line, field: 'body.messages', message: error.message });
      queries = [];
    }
    queries.forEach(({ length }, index) => {
      if (length <= room) return;
      problems.add({
        line: request.line,
        field: questions.length === 1 ? 'question' : `questions[${index}]`,
        message: `has ${length} tokens; an anchor of ${anchor} takes queries of up to ${room}. Raise --anchor or shorten it`,
      });
    });
    const longestQuery = queries.reduce((most, { length }) => Math.max(most, length), 0);
    return { ...request, queries: await spool.appendValue(queries), longestQuery };
  };
  const queried = await mapConcurrently(requests, LANES, encode, signal);
  problems.throwIfAny(file);
  return queried;
}
