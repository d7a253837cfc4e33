import { loadConfig } from '../platform/config.js';
import { cohortKeys } from '../platform/keys.js';
import { createRedis } from '../platform/redis.js';
import { layout } from './layout.js';
import { isAlive } from './process-identity.js';
import { readJson, stackPlan, stackState, type StackPlan } from './state-files.js';

export interface LocalStatus {
  dir: string;
  /** `crashed`: the supervisor is gone without having stopped the rest; `local up` or `local down` cleans up. */
  state: 'up' | 'down' | 'crashed';
  supervisor?: { pid: number; since: string };
  cohort?: string;
  dashboard?: string;
  processes: {
    name: string;
    group: string;
    alive: boolean;
    pid?: number;
    uptimeSeconds?: number;
    restarts: number;
    lastExit?: string;
    log: string;
  }[];
}

export async function localStatus(folder: string): Promise<LocalStatus> {
  const paths = layout(folder);
  const recorded = readJson(paths.state, stackState);
  if (!recorded) return { dir: paths.dir, state: 'down', processes: [] };
  const plan = readJson(paths.plan, stackPlan);
  const alive = isAlive(recorded.supervisor);
  return {
    dir: paths.dir,
    state: alive ? 'up' : 'crashed',
    supervisor: { pid: recorded.supervisor.pid, since: recorded.since },
    cohort: alive && plan ? await cohortState(plan) : undefined,
    dashboard: alive && plan ? `http://127.0.0.1:${plan.dashboardPort}` : undefined,
    processes: recorded.groups.flatMap((group) =>
      group.processes.map(({ name, identity, since, lastExit, log }) => {
        const running = identity !== undefined && isAlive(identity);
        return {
          name,
          group: group.name,
          alive: running,
          pid: running ? identity.pid : undefined,
          uptimeSeconds: running && since ? Math.round((Date.now() - Date.parse(since)) / 1000) : undefined,
          restarts: group.restarts,
          lastExit,
          log,
        };
      }),
    ),
  };
}

/** The cohort's own word about itself; undefined when Redis does not answer or nothing was said. */
async function cohortState(plan: StackPlan): Promise<string | undefined> {
  const config = loadConfig({ flags: plan.settings, environment: {}, directory: '/' });
  const redis = createRedis(config.redisUrl, 'command', {
    lazyConnect: true,
    commandTimeout: 2_000,
    maxRetriesPerRequest: 0,
  });
  try {
    return (await redis.hget(cohortKeys(config.cohort).state, 'state')) ?? undefined;
  } catch {
    return undefined;
  } finally {
    redis.disconnect();
  }
}
