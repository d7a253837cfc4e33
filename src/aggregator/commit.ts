import { UnrecoverableError, type Job, type Worker } from 'bullmq';
import { recordActivity } from '../batch/activity.js';
import { canonicalJson } from '../batch/canonical.js';
import { mapConcurrently } from '../batch/concurrency.js';
import { POISON, recordDead } from '../batch/dead.js';
import { enqueueFinalise } from '../batch/enqueue.js';
import { endingOf } from '../batch/flags.js';
import { lanesOf } from '../batch/lanes.js';
import type { IndexedManifest } from '../batch/manifest.js';
import {
  decodeOutcome,
  encodeOutcome,
  readChildFailure,
  readChildValue,
  toOutcomes,
  type ItemEnd,
} from '../batch/outcomes.js';
import { recordOutcomes, registerBatch, type Committed } from '../batch/record.js';
import { totalsOf } from '../batch/totals.js';
import type { Outcome } from '../contracts/outcome.js';
import { itemJob, type ItemFailure, type ItemJob } from '../contracts/work-item.js';
import { InfrastructureError } from '../platform/errors.js';
import { jobIds, objectKeys, QUEUES } from '../platform/keys.js';
import { reach } from '../platform/test-points.js';
import { traced } from '../platform/tracing.js';
import { isLiving, manifestOf, type AggregatorContext } from './context.js';
import { measureEnd } from './measure-end.js';
import { startWorker } from '../batch/worker.js';

/** Outcomes of one item written at the same time. */
const WRITERS = 8;

/** Takes each finished work item's answers from its parent job to S3. */
export function startCommit(context: AggregatorContext): Worker<ItemJob> {
  return startWorker<ItemJob>(
    context,
    QUEUES.outcomes,
    context.config.aggregatorConcurrency,
    (job, token, signal) =>
      traced('commit', 'internal', idsOf(job), async () =>
        commitItem(context, job, await readEnd(context, job, token), signal),
      ),
  );
}

const idsOf = ({ data, attemptsStarted }: Job<ItemJob>) => ({
  'longhaul.batch.id': data.batch_id,
  'longhaul.item': data.item,
  'longhaul.attempt': attemptsStarted,
});

/**
 * The child's value or failure; undefined when it was removed before anyone ran it. A Redis that
 * was emptied after this job was claimed looks the same, so nothing is concluded from finding
 * nothing unless the job's lock is still ours.
 */
async function readEnd(
  { config }: AggregatorContext,
  job: Job<ItemJob>,
  token: string,
): Promise<ItemEnd | undefined> {
  const [value] = Object.values<unknown>((await job.getChildrenValues()) ?? {});
  if (value !== undefined) return readChildValue(value);
  const [reason] = Object.values((await job.getIgnoredChildrenFailures()) ?? {});
  if (reason !== undefined) return readChildFailure(String(reason));
  if ((await job.extendLock(token, config.timings.lock)) !== 1) {
    throw new InfrastructureError(
      'LOCK_LOST',
      `job ${job.id} vanished from Redis or went to another aggregator`,
    );
  }
  return undefined;
}

/**
 * S3 first, then the record, then the jobs: killed at any point, the next run finds the outcomes
 * there, equal to its own, and goes on.
 */
async function commitItem(
  context: AggregatorContext,
  job: Job<ItemJob>,
  end: ItemEnd | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { batch_id: id, item } = itemJob.parse(job.data);
  const manifest = await manifestOf(context, id);
  const requests = manifest.items[item];
  if (requests === undefined) throw new UnrecoverableError(`batch ${id} has no work item ${item}`);
  // Before the outcomes: whoever reads POISON there finds the history.
  if (end !== undefined && 'end' in end && end.code === POISON) {
    await recordDead(context.store, manifest, item, end, signal);
  }
  if (end !== undefined && 'timeline' in end && end.timeline !== undefined) {
    const timeline = canonicalJson(end.timeline) + '\n';
    await context.store.create(objectKeys.timeline(id, item), timeline, signal);
  }
  const outcomes = toOutcomes(manifest.header, requests, end ?? (await endWithoutValue(context, manifest)));
  reach('commit');
  const committed = await mapConcurrently(
    outcomes,
    WRITERS,
    (outcome) => commitOutcome(context, manifest, outcome, end !== undefined, signal),
    signal,
  );
  reach('outcomes');

  let pending = await recordOutcomes(context.redis, id, committed);
  if (pending === 'unregistered') {
    if (!(await isLiving(context, id, signal))) throw new UnrecoverableError(`batch ${id} was removed`);
    // Redis was emptied under us. What it lost beside this item, the reconciler brings back.
    await registerBatch(context.redis, manifest.header);
    pending = await recordOutcomes(context.redis, id, committed);
  }
  reach('recorded');
  // The child goes before its parent: an item always has a job or a record, so nobody enqueues it again.
  const documents = context.queues.lane(lanesOf(manifest)(item));
  if ((await documents.remove(jobIds.document(id, item))) === 0) {
    throw new InfrastructureError('ITEM_HELD', `a cohort still holds work item ${item} of batch ${id}`);
  }
  // Removed by this run and no other, so it counts once.
  const ended = { outcomes, execution: end !== undefined && 'execution' in end ? end.execution : null };
  measureEnd(end, outcomes, job.timestamp);
  const { cohort, generation, epoch } = ended.execution ?? {};
  const requests_answered = outcomes.filter(({ status }) => status === 'answered').length;
  context.logger.info(
    { batch: id, item, cohort, generation, epoch, requests: outcomes.length, requests_answered },
    'committed',
  );
  await recordActivity(context.redis, { ...ended, queuedAt: job.timestamp }).catch((error: unknown) => {
    context.logger.debug({ err: error }, 'activity not recorded');
  });
  if (pending === 0) await enqueueFinalise(context.queues, id);
}

async function endWithoutValue(context: AggregatorContext, manifest: IndexedManifest): Promise<ItemFailure> {
  switch (await endingOf(context.redis, manifest.header)) {
    case 'cancelled':
      return {
        end: 'cancelled',
        code: 'CANCELLED',
        message: 'the batch was cancelled before this request ran',
      };
    case 'expired':
      return { end: 'expired', code: 'EXPIRED', message: 'the batch expired before this request ran' };
    default:
      return {
        end: 'failed',
        code: 'NO_RESULT',
        message: 'the job was removed from the queue before it ran',
      };
  }
}

/** Writes one outcome unless there is one: then the first stands, and ours only counts as a conflict. */
async function commitOutcome(
  { store, logger }: AggregatorContext,
  manifest: IndexedManifest,
  ours: Outcome,
  hasValue: boolean,
  signal: AbortSignal,
): Promise<Committed> {
  const { batch_id: id, ordinal } = ours;
  const key = objectKeys.outcome(id, ordinal, ours.custom_id);
  const bytes = encodeOutcome(ours);
  const committed = { ordinal, status: ours.status, totals: totalsOf(manifest, ours) };
  if ((await store.create(key, bytes, signal)) === 'created') return committed;
  const found = await store.get(key, signal);
  if (found.equals(bytes)) return committed;
  const first = decodeOutcome(found, id, ordinal);
  // An item that was removed unrun has nothing of its own to say: that is no conflict.
  if (hasValue) {
    logger.warn(
      { batch: id, request: ours.custom_id, ordinal, first: first.status, second: ours.status },
      'another outcome was there first and stands',
    );
  }
  return { ordinal, status: first.status, conflict: hasValue, totals: totalsOf(manifest, first) };
}
