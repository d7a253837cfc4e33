/** Does the steps of a run; `run-state.ts` says which. */
import { unixNow } from '../../batch/flags.js';
import { readHeader } from '../../batch/header.js';
import { readSuccess } from '../../batch/success.js';
import { readThen } from '../../batch/then.js';
import type { BatchDeps } from '../../batch/queues.js';
import type {
  RunBatch,
  RunEnd,
  RunPlan,
  RunStart,
  Schedule,
  SourceDocument,
} from '../../contracts/schedule.js';
import type { Config } from '../../platform/config.js';
import { describeError, ifFound, InfrastructureError, LonghaulError } from '../../platform/errors.js';
import type { Logger } from '../../platform/logger.js';
import { batchOfRun, chosenOf, submitRun } from './build.js';
import { readEntries, writeDigest } from './digest.js';
import { choose, nextStep, type RunFacts, type RunStep, type Seen } from './run-state.js';
import { listRuns, readPart, writePart } from './store.js';
import { callWebhook, shownWebhook } from './webhook.js';

export interface RunDeps extends BatchDeps {
  config: Config;
  logger: Logger;
}

/**
 * Moves a run on until it has ended or must wait; safe to do again, and by two at once. What fails for good ends the
 * run as failed.
 * @throws InfrastructureError when Redis or S3 fail: to be tried again.
 */
export async function advanceRun(
  deps: RunDeps,
  schedule: Schedule,
  run: string,
  signal: AbortSignal,
): Promise<'wait' | 'done'> {
  const { name } = schedule;
  const start = await readPart(deps.store, name, run, 'run', signal);
  if (start === undefined) return 'done';
  for (;;) {
    const facts = await readFacts(deps, schedule, run, signal);
    const step = nextStep(facts);
    if (step === 'wait' || step === 'done') return step;
    try {
      await takeStep(deps, { schedule, run, start, facts, step }, signal);
    } catch (error) {
      const final = error instanceof LonghaulError && !(error instanceof InfrastructureError);
      if (!final || facts.end !== undefined || signal.aborted) throw error;
      const { code, message } = describeError(error);
      deps.logger.warn({ schedule: name, run, code }, 'run failed');
      await endRun(deps, name, run, { ...failed(code, message), ...counts(facts) }, signal);
    }
  }
}

async function readFacts(
  { store }: BatchDeps,
  { name, webhook: url }: Schedule,
  run: string,
  signal: AbortSignal,
): Promise<RunFacts> {
  const part = <P extends 'plan' | 'batch' | 'end' | 'webhook'>(which: P) =>
    readPart(store, name, run, which, signal);
  const [plan, batch, end, webhook] = await Promise.all([
    part('plan'),
    part('batch'),
    part('end'),
    part('webhook'),
  ]);
  const batchEnded = batch !== undefined && end === undefined && (await haveEnded(store, batch, signal));
  const earlierOpen =
    plan === undefined && end === undefined && (await isEarlierOpen(store, name, run, signal));
  return { earlierOpen, plan, batch, batchEnded, end, webhook, hasWebhook: url !== null };
}

async function haveEnded(store: BatchDeps['store'], batch: RunBatch, signal: AbortSignal): Promise<boolean> {
  const { batch_id: id, split } = batch;
  if (!(await hasEnded(store, id, signal))) return false;
  if (split.length === 0) return true;
  const then = await readThen(store, id, signal);
  // Of one that was removed nobody will start it.
  if (then === undefined) return (await ifFound(readHeader(store, id, signal))) === undefined;
  return then.batch_id === null || hasEnded(store, then.batch_id, signal);
}

/** One that was removed has ended too: its digest cannot be made, and the run says so. */
async function hasEnded(store: BatchDeps['store'], id: string, signal: AbortSignal): Promise<boolean> {
  if ((await readSuccess(store, id, signal)) !== undefined) return true;
  return (await ifFound(readHeader(store, id, signal))) === undefined;
}

/** Runs end in their order, so that the one before tells. */
async function isEarlierOpen(
  store: BatchDeps['store'],
  name: string,
  run: string,
  signal: AbortSignal,
): Promise<boolean> {
  const earlier = (await listRuns(store, name, signal)).filter((other) => other < run).at(-1);
  return earlier !== undefined && (await readPart(store, name, earlier, 'end', signal)) === undefined;
}

interface Work {
  schedule: Schedule;
  run: string;
  start: RunStart;
  facts: RunFacts;
  step: Exclude<RunStep, 'wait' | 'done'>;
}

async function takeStep(deps: RunDeps, work: Work, signal: AbortSignal): Promise<void> {
  const { store, logger, config } = deps;
  const { schedule, run, start, facts, step } = work;
  const { name, webhook } = schedule;
  const documents = facts.plan === undefined ? [] : chosenOf(facts.plan);
  switch (step) {
    case 'plan': {
      const plan = await makePlan(deps, schedule, run, signal);
      logger.info({ schedule: name, run, found: plan.found.length, chosen: plan.chosen.length }, 'planned');
      return writePart(store, name, run, 'plan', plan, signal);
    }
    case 'submit': {
      const id = batchOfRun(name, start, run);
      const batch = await submitRun(deps, config, schedule, { id, documents }, signal);
      logger.info({ schedule: name, run, batch: id, refused: batch.refused.length }, 'submitted');
      return writePart(store, name, run, 'batch', batch, signal);
    }
    case 'digest':
      return endRun(deps, name, run, await digest(deps, work, documents, signal), signal);
    case 'notify': {
      if (webhook === null || facts.end === undefined) return;
      const { status, error } = facts.end;
      const told = await callWebhook(webhook, { schedule: name, run, status, error }, config.timings, signal);
      logger.info({ schedule: name, run, webhook: shownWebhook(webhook), ...told }, 'webhook called');
      return writePart(store, name, run, 'webhook', told, signal);
    }
  }
}

async function makePlan(
  { store }: BatchDeps,
  { name, input, all }: Schedule,
  run: string,
  signal: AbortSignal,
): Promise<RunPlan> {
  const found: SourceDocument[] = [];
  for await (const { url, etag, bytes, modifiedAt } of store.listUrl(input, signal)) {
    found.push({ url, etag, bytes, modified_at: Math.floor(modifiedAt.getTime() / 1000) });
  }
  const seen = all ? undefined : await lastSeen(store, name, run, signal);
  return { found, chosen: choose(found, seen) };
}

async function lastSeen(
  store: BatchDeps['store'],
  name: string,
  run: string,
  signal: AbortSignal,
): Promise<Seen | undefined> {
  const earlier = (await listRuns(store, name, signal)).filter((other) => other < run);
  for (const other of earlier.reverse()) {
    const end = await readPart(store, name, other, 'end', signal);
    if (end?.status !== 'succeeded') continue;
    const plan = await readPart(store, name, other, 'plan', signal);
    if (plan !== undefined) return { found: plan.found, unanswered: end.unanswered };
  }
  return undefined;
}

async function digest(
  deps: RunDeps,
  { schedule, run, facts }: Work,
  documents: readonly SourceDocument[],
  signal: AbortSignal,
): Promise<RunEnd> {
  const entries = await readEntries(deps, documents, facts.batch, signal);
  const written = await writeDigest(deps, schedule, run, entries, signal);
  const without = entries.filter(({ status }) => status !== 'answered');
  const common = {
    documents: entries.length,
    answered: entries.length - without.length,
    unanswered: without.map(({ document }) => document.url),
    digest: written,
    ended_at: unixNow(),
  };
  const [first] = without;
  if (first === undefined || common.answered > 0) return { status: 'succeeded', error: null, ...common };
  const why = first.error?.message ?? first.status;
  const message = `none of ${entries.length} documents was answered; the first, ${first.document.url}: ${why}`;
  return { ...failed('NONE_ANSWERED', message), ...common };
}

function failed(code: string, message: string): Pick<RunEnd, 'status' | 'error'> {
  return { status: 'failed', error: { code, message } };
}

function counts({ plan }: RunFacts): Omit<RunEnd, 'status' | 'error'> {
  const documents = plan === undefined ? [] : chosenOf(plan);
  const unanswered = documents.map(({ url }) => url);
  return { documents: documents.length, answered: 0, unanswered, digest: null, ended_at: unixNow() };
}

async function endRun(
  { store, logger }: RunDeps,
  name: string,
  run: string,
  end: RunEnd,
  signal: AbortSignal,
): Promise<void> {
  await writePart(store, name, run, 'end', end, signal);
  const { status, documents, answered } = end;
  logger.info({ schedule: name, run, status, documents, answered }, 'run ended');
}
