import type { Redis } from 'ioredis';
import { listCohorts } from '../batch/cohorts.js';
import type { Queues } from '../batch/queues.js';
import { readQueue } from '../batch/queue-state.js';
import { cohortKeys } from '../platform/keys.js';
import { queueGauges } from '../platform/metrics.js';

/** Brings the gauges of queue and cohorts up to date; returns BullMQ's own metrics in Prometheus' text format. */
export async function readGauges(redis: Redis, { documents, outcomes, finalise }: Queues): Promise<string> {
  const [queue, cohorts, ...exported] = await Promise.all([
    readQueue(redis),
    listCohorts(redis),
    ...[documents, outcomes, finalise].map((each) => each.exportPrometheusMetrics()),
  ]);
  const { waiting, active, delayed, uncommitted, oldest_queued_at: oldest } = queue;
  for (const [state, count] of Object.entries({ waiting, active, delayed, uncommitted }))
    queueGauges.items.set({ state }, count);
  queueGauges.oldest.set(oldest === null ? 0 : Math.max(0, Date.now() - oldest) / 1000);
  queueGauges.generation.reset();
  queueGauges.losses.reset();
  for (const { name: cohort, generation } of cohorts) {
    queueGauges.generation.set({ cohort }, Number.parseInt(generation, 10));
    const losses = await redis.hgetall(cohortKeys(cohort).losses);
    for (const [cause, count] of Object.entries(losses))
      queueGauges.losses.set({ cohort, cause }, Number(count));
  }
  return byName(exported.join('\n').split('\n'));
}

/** BullMQ tells each queue's metrics by themselves; Prometheus takes each name's description once, before its samples. */
function byName(lines: string[]): string {
  const families = new Map<string, Set<string>>();
  let family = new Set<string>();
  for (const line of lines) {
    const name = /^# (?:HELP|TYPE) (\S+)/.exec(line)?.[1];
    if (name !== undefined) families.set(name, (family = families.get(name) ?? new Set()));
    family.add(line);
  }
  return [...families.values()].flatMap((each) => [...each]).join('\n') + '\n';
}
