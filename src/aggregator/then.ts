/** Starts the second batch of a finished one with parts: one request for each document that was split, over its parts' answers. */
import { canonicalJson } from '../batch/canonical.js';
import { createBatch } from '../batch/create.js';
import { documentBytes, keepDocuments, storeDocument } from '../batch/documents.js';
import { unixNow } from '../batch/flags.js';
import { readOutcomes } from '../batch/read-outcomes.js';
import { readThen, thenId } from '../batch/then.js';
import type {
  Manifest,
  ManifestHeader,
  ManifestRequest,
  PartPlace,
  ThenRecord,
} from '../contracts/manifest.js';
import type { Outcome, Success } from '../contracts/outcome.js';
import type { WorkItem } from '../contracts/work-item.js';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import { readModelLimits } from '../text/model-limits.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { manifestOf, type AggregatorContext } from './context.js';

type PartRequest = ManifestRequest & { part: PartPlace };

/** A document that was split: its parts in order, with what became of them. */
interface Split {
  first: PartRequest;
  outcomes: Outcome[];
}

/** One that the second batch asks about. */
interface Taken {
  first: PartRequest;
  document: ManifestRequest['document'];
  questions: WorkItem['requests'][number]['questions'];
}

/**
 * The id of the second batch; null where none follows. The batch's id follows from the first one's and its content
 * from outcomes, which do not change, so whoever dies in between, or does it at the same time, starts it once.
 * @throws ConfigError when this aggregator's model is not the batch's: another one may have it.
 */
export async function startThen(
  context: AggregatorContext,
  header: ManifestHeader,
  success: Success,
  signal: AbortSignal,
): Promise<string | null> {
  if (header.then === undefined) return null;
  const { store, logger } = context;
  const id = header.batch_id;
  const known = await readThen(store, id, signal);
  if (known !== undefined) return known.batch_id;
  const left_out: ThenRecord['left_out'] = [];
  const taken: Taken[] = [];
  for await (const split of readSplits(context, id, signal)) {
    // Who cancelled wants no more work. Only `_SUCCESS` says the same to all who ask.
    const found = success.counts.cancelled > 0 ? CANCELLED : await combine(context, header, split, signal);
    if ('code' in found) left_out.push({ custom_id: split.first.part.of, ...found });
    else taken.push(found);
  }
  const second = taken.length === 0 ? null : await create(context, header, taken, signal);
  const record: ThenRecord = { format: 'longhaul-then/1', batch_id: second, left_out };
  await store.create(objectKeys.then(id), canonicalJson(record) + '\n', signal);
  logger.info({ batch: id, then: second, taken: taken.length, left_out: left_out.length }, 'parts answered');
  return (await readThen(store, id, signal))?.batch_id ?? null;
}

type Why = Omit<ThenRecord['left_out'][number], 'custom_id'>;

const CANCELLED: Why = {
  code: 'CANCELLED',
  message: 'the batch of its parts was cancelled, and no second one follows',
};

async function* readSplits(
  context: AggregatorContext,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<Split> {
  const manifest = await manifestOf(context, id);
  const parts = manifest.requests.filter((one): one is PartRequest => one.part !== undefined);
  const ordinals = parts.map(({ ordinal }) => ordinal);
  let split: Split | undefined;
  for await (const outcome of readOutcomes(context.store, manifest, ordinals, signal)) {
    const request = manifest.requests[outcome.ordinal] as PartRequest;
    // Parts of a document stand one after the other.
    if (request.part.index > 0) split?.outcomes.push(outcome);
    else {
      if (split !== undefined) yield split;
      split = { first: request, outcomes: [outcome] };
    }
  }
  if (split !== undefined) yield split;
}

/** The parts' answers, in order and each behind its question, as a document; or why there is none. */
async function combine(
  context: AggregatorContext,
  { then, digests, batch_id }: ManifestHeader,
  { first, outcomes }: Split,
  signal: AbortSignal,
): Promise<Taken | Why> {
  const { store, config } = context;
  const missing = outcomes.findIndex(({ status }) => status !== 'answered');
  if (missing >= 0) {
    const { status, error } = outcomes[missing] as Outcome;
    const why = error === null ? status : `${error.message} [${error.code}]`;
    return {
      code: 'PART_UNANSWERED',
      message: `part ${missing + 1} of ${outcomes.length} has no answer: ${why}`,
    };
  }
  const answers = outcomes.flatMap((one) => one.answers).filter(({ text }) => text.trim() !== '');
  // An answer without its question says little: "48213." of what?
  const text = answers.map(({ question, text }) => `${question} ${text.trim()}`).join('\n\n');
  if (text === '')
    return { code: 'PARTS_EMPTY', message: `the answers of its ${outcomes.length} parts are empty` };
  const tokenizer = await context.tokenizer();
  if (tokenizer.digest !== digests.tokenizer) {
    throw new ConfigError(
      `modelDir ${config.modelDir} has another tokenizer or prompt than batch ${batch_id} was made with; its second batch waits for an aggregator with that model`,
    );
  }
  const questions = await Promise.all(
    (then === undefined || then.question === null ? first.questions : [then.question]).map(
      async (question) => ({
        text: question,
        query: await tokenizer.encodeQuery(question),
      }),
    ),
  );
  const ids = await encode(tokenizer, text, signal);
  if ('code' in ids) return ids;
  const { maxPositions } = await readModelLimits(config.modelDir);
  const longest = Math.max(...questions.map(({ query }) => query.length));
  const room = maxPositions - longest - (first.max_tokens - 1);
  if (ids.length > room) {
    return {
      code: 'PARTS_TOO_LONG',
      message: `the answers of its ${outcomes.length} parts have ${ids.length} tokens together, and there is room for ${Math.max(0, room)}; ask for shorter answers, or use a model with a longer context`,
    };
  }
  const { sha256, tokens, existed } = await storeDocument(
    { store },
    tokenizer.digest,
    documentBytes(ids),
    signal,
  );
  if (existed) await keepDocuments({ store }, new Map([[sha256, first.part.of]]), signal);
  return { first, document: { sha256, tokens }, questions };
}

/** What a tokenizer says of a text that it cannot take. */
const REFUSED = ['BAD_TEXT', 'SPECIAL_TOKEN_IN_TEXT'];

async function encode(tokenizer: Tokenizer, text: string, signal: AbortSignal): Promise<Uint32Array | Why> {
  try {
    return await tokenizer.encodeDocument(text, signal);
  } catch (error) {
    if (!(error instanceof LonghaulError && REFUSED.includes(error.code))) throw error;
    return { code: 'PARTS_UNREADABLE', message: `the answers of its parts together: ${error.message}` };
  }
}

async function create(
  context: AggregatorContext,
  { then: _then, ...first }: ManifestHeader,
  taken: readonly Taken[],
  signal: AbortSignal,
): Promise<string> {
  const batch_id = thenId(first);
  const { options, digests, expires_at } = first;
  const requests: ManifestRequest[] = [];
  const items: WorkItem[] = [];
  for (const [ordinal, { first: request, document, questions }] of taken.entries()) {
    const { item: _item, part, ...kept } = request;
    const { max_tokens, temperature, seed } = request;
    const custom_id = part.of;
    const texts = questions.map(({ text }) => text);
    requests.push({ ...kept, ordinal, custom_id, item: ordinal, document, questions: texts });
    items.push({
      format: 'longhaul-item/1',
      batch_id,
      index: ordinal,
      document,
      options,
      digests,
      expires_at,
      requests: [{ ordinal, custom_id, max_tokens, temperature, seed, questions }],
    });
  }
  const manifest: Manifest = {
    header: {
      ...first,
      batch_id,
      created_at: unixNow(),
      totals: {
        requests: requests.length,
        questions: requests.reduce((sum, { questions }) => sum + questions.length, 0),
        documents: new Set(requests.map(({ document }) => document.sha256)).size,
        items: items.length,
      },
      then_of: first.batch_id,
    },
    requests,
  };
  await createBatch(context, manifest, items, signal);
  return batch_id;
}
