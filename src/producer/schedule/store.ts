/** Schedules and their runs, as S3 has them, and the clockwork in Redis made from them. */
import { Queue } from 'bullmq';
import type { z } from 'zod';
import { unixNow } from '../../batch/flags.js';
import { queueOptions, type BatchDeps } from '../../batch/queues.js';
import {
  runBatch,
  runEnd,
  runPlan,
  runStart,
  runWebhook,
  schedule,
  type RunBatch,
  type RunEnd,
  type RunPlan,
  type RunStart,
  type RunWebhook,
  type Schedule,
  type ScheduleJob,
} from '../../contracts/schedule.js';
import { ifFound, LonghaulError, NotFoundError, StoreError } from '../../platform/errors.js';
import { jobIds, QUEUES, scheduleKeys } from '../../platform/keys.js';
import type { ObjectStore } from '../../platform/object-store.js';

interface Parts {
  run: RunStart;
  plan: RunPlan;
  batch: RunBatch;
  end: RunEnd;
  webhook: RunWebhook;
}
type Part = keyof Parts;
const parts: { [P in Part]: z.ZodType<Parts[P]> } = {
  run: runStart,
  plan: runPlan,
  batch: runBatch,
  end: runEnd,
  webhook: runWebhook,
};

export type ScheduleQueue = Queue<ScheduleJob>;

/** Opens the queue over a client that stays the caller's. */
export async function withScheduleQueue<T>(
  redis: BatchDeps['redis'],
  use: (queue: ScheduleQueue) => Promise<T>,
): Promise<T> {
  const queue: ScheduleQueue = new Queue(QUEUES.schedules, queueOptions(redis));
  queue.on('error', () => undefined);
  try {
    return await use(queue);
  } finally {
    await queue.close();
  }
}

/** @throws NotFoundError */
export async function readSchedule(
  store: ObjectStore,
  name: string,
  signal?: AbortSignal,
): Promise<Schedule> {
  return (await readTagged(store, name, signal)).schedule;
}

/** With the tag of this version of it. @throws NotFoundError */
async function readTagged(
  store: ObjectStore,
  name: string,
  signal?: AbortSignal,
): Promise<{ schedule: Schedule; etag: string }> {
  const unknown = () =>
    new NotFoundError(`there is no schedule ${name}; \`longhaul schedule list\` shows those there are`);
  if (!schedule.shape.name.safeParse(name).success) throw unknown();
  const key = scheduleKeys.schedule(name);
  const found = await ifFound(store.getTagged(key, signal));
  if (found === undefined) throw unknown();
  return { schedule: parse(store, key, schedule, found.bytes), etag: found.etag };
}

export async function listSchedules(store: ObjectStore, signal?: AbortSignal): Promise<Schedule[]> {
  const found: Schedule[] = [];
  for await (const name of store.listFolders(scheduleKeys.schedules(), signal)) {
    const one = await ifFound(readSchedule(store, name, signal));
    if (one !== undefined) found.push(one);
  }
  return found;
}

/** @throws LonghaulError `SCHEDULE_EXISTS` */
export async function addSchedule(deps: BatchDeps, added: Schedule, signal?: AbortSignal): Promise<void> {
  const key = scheduleKeys.schedule(added.name);
  if ((await deps.store.create(key, encode(added), signal)) === 'exists') {
    throw new LonghaulError(
      'SCHEDULE_EXISTS',
      `there is a schedule ${added.name} already; choose another name, or remove it with \`longhaul schedule remove ${added.name}\``,
    );
  }
  await withScheduleQueue(deps.redis, (queue) => wind(queue, added));
}

/** Changes that are begun again because somebody else's came first. */
const EDITS = 8;

/** Pauses or resumes, over whatever others change at the same time; what was due meanwhile is not caught up. A run that is under way goes on. */
export async function setPaused(
  deps: BatchDeps,
  name: string,
  paused: boolean,
  signal?: AbortSignal,
): Promise<Schedule> {
  const { store, redis } = deps;
  for (let attempt = 1; attempt <= EDITS; attempt++) {
    const { schedule: before, etag } = await readTagged(store, name, signal);
    if (before.paused === paused) return before;
    const after = { ...before, paused, active_since: unixNow() };
    const written = await store.replace(scheduleKeys.schedule(name), encode(after), etag, signal);
    if (written === 'changed') continue;
    await withScheduleQueue(redis, (queue) => wind(queue, after));
    return after;
  }
  throw new StoreError(
    'CONFLICT',
    `${store.url(scheduleKeys.schedule(name))} was changed by others ${EDITS} times in a row; try again`,
  );
}

/** Forgets the schedule and its history; batches and digests stay. */
export async function removeSchedule(deps: BatchDeps, name: string, signal?: AbortSignal): Promise<void> {
  await readSchedule(deps.store, name, signal);
  // First, so that nobody starts another run.
  await deps.store.delete(scheduleKeys.schedule(name), signal);
  await withScheduleQueue(deps.redis, (queue) => queue.removeJobScheduler(name));
  for await (const key of deps.store.list(scheduleKeys.all(name), signal))
    await deps.store.delete(key, signal);
}

/** Sets or stops the clockwork of a schedule; again is no change. */
export async function wind(queue: ScheduleQueue, { name, cron, tz, paused }: Schedule): Promise<void> {
  if (paused) {
    await queue.removeJobScheduler(name);
    return;
  }
  const known = await queue.getJobScheduler(name);
  // Setting it anew would put off a tick that is due.
  if (known?.pattern === cron && known.tz === tz) return;
  const opts = { removeOnComplete: true, removeOnFail: true };
  await queue.upsertJobScheduler(
    name,
    { pattern: cron, tz },
    { name: 'tick', data: { schedule: name }, opts },
  );
}

/** Starts a run unless somebody has. Whoever dies in between is made good by a scheduler's next pass. */
export async function startRun(
  store: ObjectStore,
  queue: ScheduleQueue,
  name: string,
  { run, cause }: Pick<RunStart, 'run' | 'cause'>,
  signal?: AbortSignal,
): Promise<void> {
  await writePart(store, name, run, 'run', { run, cause, created_at: unixNow() }, signal);
  await queueRun(queue, name, run);
}

/** A run that is queued already is queued once. */
export async function queueRun(queue: ScheduleQueue, name: string, run: string): Promise<void> {
  const opts = { jobId: jobIds.scheduleRun(name, run), removeOnComplete: true, removeOnFail: true };
  await queue.add('run', { schedule: name, run }, opts);
}

/** Names of a schedule's runs, oldest first. */
export async function listRuns(store: ObjectStore, name: string, signal?: AbortSignal): Promise<string[]> {
  const runs: string[] = [];
  for await (const run of store.listFolders(scheduleKeys.runs(name), signal)) runs.push(run);
  return runs;
}

export async function readPart<P extends Part>(
  store: ObjectStore,
  name: string,
  run: string,
  part: P,
  signal?: AbortSignal,
): Promise<Parts[P] | undefined> {
  const key = scheduleKeys.run(name, run, part);
  const bytes = await ifFound(store.get(key, signal));
  return bytes === undefined ? undefined : parse(store, key, parts[part], bytes);
}

/** Once: of two writers the first one counts. */
export async function writePart<P extends Part>(
  store: ObjectStore,
  name: string,
  run: string,
  part: P,
  value: Parts[P],
  signal?: AbortSignal,
): Promise<void> {
  await store.createStream(scheduleKeys.run(name, run, part), [encode(value)], signal);
}

function encode(value: object): Buffer {
  return Buffer.from(JSON.stringify(value) + '\n');
}

function parse<T>(store: ObjectStore, key: string, type: z.ZodType<T>, bytes: Buffer): T {
  try {
    return type.parse(JSON.parse(bytes.toString('utf8')));
  } catch (cause) {
    throw new StoreError(
      'SCHEDULE_CORRUPT',
      `${store.url(key)} is not what longhaul writes there; remove the schedule and add it again`,
      { cause },
    );
  }
}
