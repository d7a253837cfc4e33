/** An input file to a batch: check all, stage the documents, plan, create. */
import { createBatch } from '../batch/create.js';
import type { BatchDeps } from '../batch/queues.js';
import type { ManifestHeader } from '../contracts/manifest.js';
import type { RunOptions } from '../contracts/request.js';
import { InputError, type InputProblem } from '../platform/errors.js';
import { modelDigests } from '../text/model-digests.js';
import { readMaxPositions } from '../text/model-limits.js';
import { queryRoom } from '../text/question-groups.js';
import { loadTokenizer, type Tokenizer } from '../text/tokenizer.js';
import { buildBatch, type Resolved } from './build-batch.js';
import { parseInput, type ParsedRequest } from './parse-input.js';
import { checkOptions, resolveOptions, type ChosenOptions } from './run-options.js';
import { stageDocuments, type StageProgress } from './stage-documents.js';

export interface SubmitInput {
  file: string;
  modelDir: string;
  headsFile?: string;
  options: ChosenOptions;
  /** Draws a random id: another batch, whatever was submitted before. */
  isNew?: boolean;
  expiresHours?: number;
  /** Accepts documents that the model cannot hold; their requests end as errors. */
  allowTooLong?: boolean;
  /** Called when every line is known to be good, before anything else is opened. */
  onParsed?: () => Promise<unknown>;
  onProgress?: (progress: StageProgress) => void;
  signal?: AbortSignal;
}

export interface Submitted {
  id: string;
  /** False: the same batch had been submitted before. */
  created: boolean;
  options: RunOptions;
  totals: ManifestHeader['totals'];
  /** Sum over distinct documents. */
  documentTokens: number;
}

/**
 * Submitting the same content, options and model twice is one batch: its id is their hash.
 * @throws InputError listing everything wrong with the file; then nothing was enqueued.
 */
export async function submit(deps: BatchDeps, input: SubmitInput): Promise<Submitted> {
  const { file, modelDir, signal } = input;
  checkOptions(input.options);
  const requests = await parseInput(file, { signal });
  await input.onParsed?.();
  const [tokenizer, maxPositions, digests] = await Promise.all([
    loadTokenizer(modelDir),
    readMaxPositions(modelDir),
    modelDigests(modelDir, input.headsFile, { signal }),
  ]);
  const queries = await encodeQueries(tokenizer, requests);
  const longestQuery = longest([...queries.values()].flat());
  checkQueries(file, requests, queries, resolveAnchor(input, tokenizer, longestQuery));

  // The last new token is never fed back, so it needs no position.
  const room = (request: ParsedRequest) =>
    maxPositions - longest(queries.get(request) ?? []) - (request.max_tokens - 1);
  const { documents, problems } = await stageDocuments({
    store: deps.store,
    tokenizer,
    file,
    requests,
    room: input.allowTooLong === true ? () => Infinity : room,
    onProgress: input.onProgress,
    signal,
  });
  if (problems.length > 0) throw new InputError(file, problems);

  const resolved = requests.map((request): Resolved => {
    const document = documents.get(request.document.key);
    if (document === undefined) throw new Error(`document of line ${request.line} was not staged`);
    return { request, queries: queries.get(request) ?? [], document };
  });
  // A document that will end as an error must not set the batch's l_a and l_p.
  const fitting = resolved.filter(({ request, document }) => document.tokens <= room(request));
  const options = resolveOptions(input.options, tokenizer.prompt.defaults, {
    longestDocument: fitting.reduce((most, { document }) => Math.max(most, document.tokens), 0),
    longestQuery,
  });
  const { manifest, items } = buildBatch(input, resolved, options, digests);
  const { id, created } = await createBatch(deps, manifest, items, signal);
  const distinct = new Map(resolved.map(({ document }) => [document.sha256, document.tokens]));
  return {
    id,
    created,
    options,
    totals: manifest.header.totals,
    documentTokens: [...distinct.values()].reduce((sum, tokens) => sum + tokens, 0),
  };
}

/** As far as it is known before documents are read: a default l_a only ever grows from here. */
function resolveAnchor(input: SubmitInput, tokenizer: Tokenizer, longestQuery: number): RunOptions {
  return resolveOptions(input.options, tokenizer.prompt.defaults, { longestDocument: 0, longestQuery });
}

async function encodeQueries(
  tokenizer: Tokenizer,
  requests: readonly ParsedRequest[],
): Promise<Map<ParsedRequest, number[][]>> {
  const encoded = new Map<ParsedRequest, number[][]>();
  for (const request of requests) {
    encoded.set(request, await Promise.all(request.questions.map((q) => tokenizer.encodeQuery(q))));
  }
  return encoded;
}

function checkQueries(
  file: string,
  requests: readonly ParsedRequest[],
  queries: Map<ParsedRequest, number[][]>,
  options: RunOptions,
): void {
  const room = queryRoom(options);
  const problems = requests.flatMap((request): InputProblem[] =>
    (queries.get(request) ?? []).flatMap((query, index) =>
      query.length <= room
        ? []
        : {
            line: request.line,
            field: request.questions.length === 1 ? 'question' : `questions[${index}]`,
            message: `has ${query.length} tokens; an anchor of ${options.anchor} takes queries of up to ${room}. Raise --anchor or shorten it`,
          },
    ),
  );
  if (problems.length > 0) throw new InputError(file, problems);
}

function longest(sequences: readonly { readonly length: number }[]): number {
  return sequences.reduce((most, { length }) => Math.max(most, length), 0);
}
