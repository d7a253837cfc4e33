/** From a promised batch to one of longhaul's: its file is fetched, looked at, and submitted or refused. */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'bullmq';
import { unixNow } from '../batch/flags.js';
import { lanesSet } from '../batch/lanes.js';
import { startWorker, type WorkerContext } from '../batch/worker.js';
import { describeError, DocumentError, InputError, LonghaulError } from '../platform/errors.js';
import { gatewayKeys, objectKeys, QUEUES } from '../platform/keys.js';
import { submit } from '../producer/submit.js';
import { sourcePolicy } from '../text/source-policy.js';
import { ApiError } from './api-error.js';
import { enqueueValidation } from './batches.js';
import type { GatewayContext, ValidateJob } from './context.js';
import { isOverdue } from './describe-batch.js';
import { findFile, openFile } from './files.js';
import { batchRecord, createRecord, readRecord, type BatchRecord, type FailureRecord } from './records.js';

type Failures = FailureRecord['errors'];
type ValidateContext = GatewayContext & WorkerContext;

/** Files that one gateway looks at at the same time: each takes a core. */
const CONCURRENCY = 2;
/** A promise that stays without a record for this long is one whose maker has died. */
const ABANDONED_MS = 10 * 60_000;

export function startValidation(context: ValidateContext): Worker<ValidateJob> {
  const unmade: Unmade = new Map();
  return startWorker<ValidateJob>(context, QUEUES.validate, CONCURRENCY, async ({ data }, _token, signal) => {
    await validate(context, unmade, data, signal);
  });
}

/** Puts back on the queue what Redis may have lost. Returns when the context's signal is aborted. */
export async function runReconciler({
  store,
  config,
  validation,
  logger,
  signal,
}: GatewayContext): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const key of store.list(gatewayKeys.allPending(), signal)) {
        const [owner, id] = key.slice(gatewayKeys.allPending().length).split('/');
        if (owner !== undefined && id !== undefined) await enqueueValidation(validation, { owner, id });
      }
    } catch (error) {
      if (!signal.aborted) logger.warn(describeError(error), 'pending batches not listed');
    }
    await sleep(config.timings.reconcile, undefined, { signal }).catch(() => undefined);
  }
}

/** When this process first saw a promise without its record, by its monotonic clock. */
type Unmade = Map<string, number>;

function isAbandoned(unmade: Unmade, id: string): boolean {
  const since = unmade.get(id) ?? performance.now();
  unmade.set(id, since);
  return performance.now() - since >= ABANDONED_MS;
}

async function validate(
  context: ValidateContext,
  unmade: Unmade,
  { owner, id }: ValidateJob,
  signal: AbortSignal,
): Promise<void> {
  const { store } = context;
  const pending = gatewayKeys.pending(owner, id);
  const record = await readRecord(store, gatewayKeys.batch(owner, id), batchRecord);
  if (record === undefined && !isAbandoned(unmade, id)) return;
  unmade.delete(id);
  // With its manifest the batch is there, and the rest of its making is the aggregators' reconciler's.
  if (record !== undefined && !(await store.exists(objectKeys.manifest(id)))) {
    const errors = await submitFile(context, owner, record, signal);
    if (errors !== undefined) await fail(context, owner, id, errors);
  }
  await store.delete(pending);
}

/** What is wrong with the file; undefined when the batch was made. @throws what another try may heal. */
async function submitFile(
  context: ValidateContext,
  owner: string,
  record: BatchRecord,
  signal: AbortSignal,
): Promise<Failures | undefined> {
  const { config, logger } = context;
  const directory = await mkdtemp(join(tmpdir(), 'longhaul-gateway-'));
  try {
    const input = await findFile(context, owner, record.input_file_id);
    const file = join(directory, nameOf(input.filename));
    await pipeline(await openFile(context, input), createWriteStream(file, { mode: 0o600 }), { signal });
    const { id, totals } = await submit(context, {
      file,
      id: record.id,
      expiresAt: record.expires_at,
      tenant: owner,
      lanes: lanesSet(config),
      // Whoever may upload a file must not read with the gateway's eyes.
      policy: sourcePolicy({ ...config, service: true }),
      modelDir: config.modelDir,
      headsFile: config.headsFile,
      options: { method: 'apb', ranks: config.ranks },
      signal,
    });
    logger.info({ owner, batch: id, ...totals }, 'submitted');
    return undefined;
  } catch (error) {
    if (signal.aborted) throw error;
    const errors = refusalOf(error);
    if (errors !== undefined) return errors;
    if (!isOverdue(record)) throw error;
    logger.error({ owner, batch: record.id, ...describeError(error) }, 'not validated within its window');
    const message = `the file could not be looked at within ${record.completion_window}; create the batch again`;
    return [{ code: 'not_validated', line: null, message, param: null }];
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The name is the batch's in longhaul, for people. */
function nameOf(filename: string): string {
  return (
    basename(filename)
      .replace(/[^\p{L}\p{N} ._-]/gu, '_')
      .slice(-100)
      .replace(/^\.+/, '') || 'input.jsonl'
  );
}

/** Of what the caller can mend; undefined for what is ours. */
function refusalOf(error: unknown): Failures | undefined {
  if (error instanceof InputError) {
    return error.problems.map(({ line, field, message }) => ({
      code: line === 0 ? 'invalid_file' : field === 'line' ? 'invalid_json_line' : 'invalid_request',
      line: line === 0 ? null : line,
      message,
      param: field,
    }));
  }
  const final = error instanceof ApiError || error instanceof DocumentError || isConflict(error);
  if (!final) return undefined;
  const { code, message } = describeError(error);
  return [
    {
      code: code.toLowerCase(),
      line: null,
      message,
      param: error instanceof ApiError ? 'input_file_id' : null,
    },
  ];
}

/** A document on the web that changed between two tries. */
const isConflict = (error: unknown): boolean => error instanceof LonghaulError && error.code === 'CONFLICT';

async function fail(
  { store, logger }: GatewayContext,
  owner: string,
  id: string,
  errors: Failures,
): Promise<void> {
  const record: FailureRecord = { format: 'longhaul-gateway-failure/1', failed_at: unixNow(), errors };
  await createRecord(store, gatewayKeys.failure(owner, id), record);
  logger.info({ owner, batch: id, errors: errors.length }, 'refused');
}
