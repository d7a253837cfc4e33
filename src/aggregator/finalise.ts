import type { Worker } from 'bullmq';
import { canonicalJson } from '../batch/canonical.js';
import { chunks } from '../batch/concurrency.js';
import { itemStates, removeChildren } from '../batch/enqueue.js';
import { lanesOf } from '../batch/lanes.js';
import type { IndexedManifest } from '../batch/manifest.js';
import { encodeOutputLine } from '../batch/output-line.js';
import { readOutcomes } from '../batch/read-outcomes.js';
import { recordFinished, registerBatch } from '../batch/record.js';
import { finishedAt, readSuccess } from '../batch/success.js';
import { listOutcomes } from '../batch/sync.js';
import { addTotals, describeTotals, noTotals, totalsOf } from '../batch/totals.js';
import type { Outcome, Success } from '../contracts/outcome.js';
import { finaliseJob, type FinaliseJob } from '../contracts/work-item.js';
import { objectKeys, QUEUES, redisKeys } from '../platform/keys.js';
import { reach } from '../platform/test-points.js';
import { traced } from '../platform/tracing.js';
import { VERSION } from '../platform/version.js';
import { manifestOf, restoreLiving, type AggregatorContext } from './context.js';
import { startThen } from './then.js';
import { startWorker } from '../batch/worker.js';

export function startFinalise(context: AggregatorContext): Worker<FinaliseJob> {
  return startWorker<FinaliseJob>(context, QUEUES.finalise, 2, (job, _token, signal) => {
    const { batch_id: id } = finaliseJob.parse(job.data);
    return traced('finalise', 'internal', { 'longhaul.batch.id': id }, () =>
      finaliseBatch(context, id, signal),
    );
  });
}

/**
 * Writes the batch's files from its outcomes, `_SUCCESS` last. The files are a function of the
 * outcomes, so running twice, or two at once, writes the same bytes. Of a batch with parts the second one is started
 * before Redis takes this one for finished: whoever dies in between leaves an open batch to the reconciler.
 */
async function finaliseBatch(context: AggregatorContext, id: string, signal: AbortSignal): Promise<void> {
  const { store, logger } = context;
  const manifest = await manifestOf(context, id);
  let success = await readSuccess(store, id, signal);
  if (success === undefined) {
    const done = await listOutcomes(context, manifest, signal);
    if (done.size !== manifest.requests.length) {
      const restored = await restoreLiving(context, manifest, signal);
      if (restored === undefined) return;
      logger.warn(
        { batch: id, ...restored },
        'outcomes are missing in S3: not finalised, items enqueued again',
      );
      return;
    }
    success = await writeFiles(context, manifest, signal);
  }
  const then = await startThen(context, manifest.header, success, signal);
  await settle(context, manifest, success, then, signal);
  logger.info({ batch: id, ...success.counts }, 'finished');
}

async function writeFiles(
  { store }: AggregatorContext,
  manifest: IndexedManifest,
  signal: AbortSignal,
): Promise<Success> {
  const id = manifest.header.batch_id;
  const counts = { total: manifest.requests.length, answered: 0, failed: 0, cancelled: 0, expired: 0 };
  const totals = noTotals();
  const unanswered: number[] = [];
  const line = (outcome: Outcome) =>
    encodeOutputLine(manifest.header, manifest.requests[outcome.ordinal] ?? {}, outcome);

  async function* answeredLines(): AsyncGenerator<Buffer> {
    const all = manifest.requests.map(({ ordinal }) => ordinal);
    for await (const outcome of readOutcomes(store, manifest, all, signal)) {
      counts[outcome.status] += 1;
      addTotals(totals, totalsOf(manifest, outcome));
      if (outcome.status === 'answered') yield line(outcome);
      else unanswered.push(outcome.ordinal);
    }
  }
  async function* otherLines(): AsyncGenerator<Buffer> {
    for await (const outcome of readOutcomes(store, manifest, unanswered, signal)) yield line(outcome);
  }
  reach('finalise');
  const output = await store.put(objectKeys.output(id), answeredLines(), signal);
  const error = await store.put(objectKeys.error(id), otherLines(), signal);
  reach('files');
  const success: Success = {
    format: 'longhaul-success/1',
    batch_id: id,
    counts,
    ...describeTotals(totals),
    files: {
      output: { key: objectKeys.output(id), ...output },
      error: { key: objectKeys.error(id), ...error },
    },
    version: VERSION,
  };
  const written = await store.create(objectKeys.success(id), canonicalJson(success) + '\n', signal);
  reach('success');
  return written === 'created' ? success : ((await readSuccess(store, id, signal)) ?? success);
}

/** Tells Redis, and removes what only an unfinished batch needs. Can be repeated. */
async function settle(
  context: AggregatorContext,
  manifest: IndexedManifest,
  success: Success,
  then: string | null,
  signal: AbortSignal,
): Promise<void> {
  const { redis, store, queues } = context;
  const id = manifest.header.batch_id;
  const items = [...manifest.items.keys()];
  await registerBatch(redis, manifest.header);
  await recordFinished(redis, id, success, await finishedAt(store, id, signal), then);
  const states = await itemStates(redis, id, items, lanesOf(manifest));
  await removeChildren(
    queues,
    id,
    items.filter((item) => states.get(item) !== 'none'),
    lanesOf(manifest),
    signal,
  );
  for (const chunk of chunks(items, 1000)) await redis.unlink(chunk.map((item) => redisKeys.item(id, item)));
  context.manifests.drop(id);
}
