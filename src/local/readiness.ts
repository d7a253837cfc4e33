import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Config } from '../platform/config.js';
import { describeError, LonghaulError } from '../platform/errors.js';
import { cohortKeys, QUEUE_PREFIX, QUEUES } from '../platform/keys.js';
import { ObjectStore } from '../platform/object-store.js';
import { createRedis } from '../platform/redis.js';
import type { Layout } from './layout.js';
import { isAlive } from './process-identity.js';
import { canConnect } from './reach.js';
import { pingRedis } from './redis-server.js';
import { readJson, stackState, type StackPlan } from './state-files.js';

/** How often a group may have been restarted before `up` stops hoping. */
const maxRestarts = 4;

export interface WaitOptions {
  paths: Layout;
  plan: StackPlan;
  config: Config;
  /** Unix milliseconds; a cohort state from before is that of a former start. */
  since: number;
  timeoutMs: number;
  report: (text: string) => void;
  signal: AbortSignal;
}

interface Step {
  name: string;
  /** Undefined: ready. Otherwise what is missing. */
  check: () => Promise<string | undefined>;
}

/** @throws LonghaulError `LOCAL_NOT_READY` with the end of the guilty log. */
export async function waitReady(options: WaitOptions): Promise<void> {
  const { paths, plan, config, since, timeoutMs, report, signal } = options;
  const redis = createRedis(config.redisUrl, 'command', { lazyConnect: true });
  const store = new ObjectStore(config);
  try {
    const steps: Step[] = [
      {
        name: `redis on 127.0.0.1:${plan.redisPort}`,
        check: async () =>
          (await pingRedis(plan.redisPort, plan.redisPassword)) ? undefined : 'no answer to PING',
      },
      { name: `s3 at ${config.s3Endpoint}, bucket ${config.s3Bucket}`, check: () => probe(store, signal) },
      { name: 'aggregator', check: () => workerState(redis, QUEUES.outcomes) },
      { name: 'scheduler', check: () => workerState(redis, QUEUES.schedules) },
      { name: `cohort of ${config.ranks}`, check: () => cohortState(redis, config, since) },
      {
        name: `dashboard at http://127.0.0.1:${config.dashboardPort}`,
        check: async () => ((await canConnect(config.dashboardPort)) ? undefined : 'it does not listen yet'),
      },
    ];
    const deadline = performance.now() + timeoutMs;
    for (const step of steps) {
      let said = performance.now();
      for (;;) {
        signal.throwIfAborted();
        const missing = await step.check().catch((error: unknown) => describeError(error).message);
        if (missing === undefined) break;
        checkSupervisor(paths);
        if (performance.now() > deadline)
          throw notReady(
            `${step.name} was not ready within ${timeoutMs / 1000} s: ${missing}`,
            paths,
            step.name,
          );
        if (performance.now() - said > 5_000) {
          report(`waiting for ${step.name}: ${missing}`);
          said = performance.now();
        }
        await sleep(100, undefined, { signal });
      }
      report(`ready: ${step.name}`);
    }
  } finally {
    redis.disconnect();
    store.close();
  }
}

async function probe(store: ObjectStore, signal: AbortSignal): Promise<undefined> {
  await store.probe(signal);
}

/** Aggregator and scheduler have no word for being ready; their BullMQ worker is connected when they are. */
async function workerState(redis: Redis, name: string): Promise<string | undefined> {
  const queue = new Queue(name, { connection: redis, prefix: QUEUE_PREFIX });
  // Without a listener an error of the connection would end this process; the call below fails anyway.
  queue.on('error', () => undefined);
  try {
    return (await queue.getWorkersCount()) > 0 ? undefined : 'its worker has not connected yet';
  } finally {
    await queue.close();
  }
}

async function cohortState(redis: Redis, config: Config, since: number): Promise<string | undefined> {
  const { state, updated_at } = await redis.hgetall(cohortKeys(config.cohort).state);
  if (state === undefined || Number(updated_at) < since) return 'its ranks load the model';
  return state === 'READY' || state === 'RUNNING' ? undefined : `state ${state}`;
}

function checkSupervisor(paths: Layout): void {
  const state = readJson(paths.state, stackState);
  if (!state || !isAlive(state.supervisor)) throw notReady('the supervisor has ended', paths, 'supervisor');
  for (const group of state.groups) {
    if (group.restarts < maxRestarts) continue;
    const guilty = group.processes.find(
      (p) => p.lastExit !== undefined && !p.lastExit.includes('exit code 75'),
    );
    const process = guilty ?? group.processes[0];
    const name = process?.name ?? group.name;
    throw notReady(
      `${name} was restarted ${group.restarts} times; it ${process?.lastExit ?? 'ended'}`,
      paths,
      name,
    );
  }
}

function notReady(what: string, paths: Layout, name: string): LonghaulError {
  const log = paths.log(name.startsWith('cohort') ? 'rank-0' : (name.split(' ')[0] ?? name));
  const tail = existsSync(log)
    ? readFileSync(log, 'utf8').trimEnd().split('\n').slice(-5).join('\n  ')
    : '(no log)';
  return new LonghaulError('LOCAL_NOT_READY', `${what}. The end of ${log}:\n  ${tail}`);
}
