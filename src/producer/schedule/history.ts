/** What people see of schedules and runs. */
import type { RunEnd, RunStart, RunWebhook, Schedule } from '../../contracts/schedule.js';
import type { ObjectStore } from '../../platform/object-store.js';
import { readThen } from '../../batch/then.js';
import { listRuns, readPart, readSchedule } from './store.js';

export interface RunRecord extends Pick<RunStart, 'run' | 'cause'> {
  /** `waiting`: for an earlier run, or for a scheduler. */
  status: 'waiting' | 'running' | RunEnd['status'];
  batch_id: string | null;
  /** The second batch, over the answers of parts. */
  then: string | null;
  end: RunEnd | null;
  webhook: RunWebhook | null;
}

/** The latest `limit` runs, newest first. @throws NotFoundError */
export async function scheduleHistory(
  store: ObjectStore,
  name: string,
  limit: number,
  signal?: AbortSignal,
): Promise<RunRecord[]> {
  await readSchedule(store, name, signal);
  const runs = (await listRuns(store, name, signal)).reverse().slice(0, limit);
  return Promise.all(
    runs.map(async (run) => {
      const part = <P extends 'run' | 'plan' | 'batch' | 'end' | 'webhook'>(which: P) =>
        readPart(store, name, run, which, signal);
      const [start, plan, batch, end, webhook] = await Promise.all([
        part('run'),
        part('plan'),
        part('batch'),
        part('end'),
        part('webhook'),
      ]);
      const split = batch !== undefined && batch.split.length > 0;
      const then = split ? ((await readThen(store, batch.batch_id, signal))?.batch_id ?? null) : null;
      const status = end?.status ?? (plan === undefined ? ('waiting' as const) : ('running' as const));
      return {
        run,
        cause: start?.cause ?? 'cron',
        status,
        batch_id: batch?.batch_id ?? null,
        then,
        end: end ?? null,
        webhook: webhook ?? null,
      };
    }),
  );
}

/** A schedule as people may see it: a webhook's path may be a secret. */
export function shownSchedule(schedule: Schedule): Schedule {
  const { webhook } = schedule;
  return { ...schedule, webhook: webhook === null ? null : new URL(webhook).origin };
}
