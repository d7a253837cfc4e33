import type { Redis } from 'ioredis';
import { listCohorts, type Cohort } from '../batch/cohorts.js';
import { redisNow } from '../batch/flags.js';
import { knownLanes } from '../batch/lanes.js';
import type { Queues } from '../batch/queues.js';
import { readQueue } from '../batch/queue-state.js';
import { cohortState } from '../contracts/cohort.js';
import { cohortKeys } from '../platform/keys.js';
import { queueGauges } from '../platform/metrics.js';

/** A leader tells its state with each heartbeat; clocks may differ by some of them. */
const SILENT_BEATS = 15;

/** Brings the gauges of Redis, queue and cohorts up to date; `heartbeat` in milliseconds. Returns BullMQ's own metrics in Prometheus' text format. */
export async function readGauges(
  redis: Redis,
  { lane, outcomes, finalise }: Queues,
  heartbeat: number,
): Promise<string> {
  const documents = (await knownLanes(redis)).map(lane);
  const [queue, cohorts, now, memory, ...exported] = await Promise.all([
    readQueue(redis),
    listCohorts(redis),
    redisNow(redis),
    redis.info('memory'),
    ...[...documents, outcomes, finalise].map((each) => each.exportPrometheusMetrics()),
  ]);
  const { waiting, active, delayed, uncommitted, oldest_queued_at: oldest } = queue;
  for (const [state, count] of Object.entries({ waiting, active, delayed, uncommitted }))
    queueGauges.items.set({ state }, count);
  queueGauges.oldest.set(oldest === null ? 0 : Math.max(0, Date.now() - oldest) / 1000);
  for (const [kind, bytes] of Object.entries(memoryOf(memory))) queueGauges.memory.set({ kind }, bytes);
  const counted = countStates(cohorts, now * 1000 - SILENT_BEATS * heartbeat);
  for (const [state, count] of counted) queueGauges.cohorts.set({ state }, count);
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

/** Cohorts in each state, none left out; `since`, Unix milliseconds: who last told before it is silent. */
export function countStates(
  cohorts: readonly Pick<Cohort, 'state' | 'updated_at'>[],
  since: number,
): Map<string, number> {
  const counts = new Map<string, number>(
    [...cohortState.shape.state.options, 'SILENT'].map((state) => [state.toLowerCase(), 0]),
  );
  for (const { state, updated_at } of cohorts) {
    // One that closed said so, and says nothing more.
    const told = updated_at < since && state !== 'CLOSED' ? 'silent' : state.toLowerCase();
    counts.set(told, (counts.get(told) ?? 0) + 1);
  }
  return counts;
}

/** Bytes by kind, from INFO memory. */
export function memoryOf(info: string): { used: number; limit: number } {
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return { used: field('used_memory'), limit: field('maxmemory') || field('total_system_memory') };
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
