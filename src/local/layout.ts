import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of this package. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** What lies where in the folder of a local stack. */
export function layout(folder: string) {
  const dir = resolve(folder);
  return {
    dir,
    /** Settings for other commands; exists while the stack is up. See platform/config.ts. */
    settings: join(dir, 'local.json'),
    /** What to run; survives `down`, so that ports, credentials and data stay the same. */
    plan: join(dir, 'plan.json'),
    /** What runs; written by the supervisor at every change, removed when it has stopped everything. */
    state: join(dir, 'supervisor.json'),
    /** Held by `up` and `down` while they work. */
    lock: join(dir, 'command.lock'),
    logs: join(dir, 'logs'),
    log: (name: string) => join(dir, 'logs', `${name}.log`),
    redis: join(dir, 'redis'),
    redisConfig: join(dir, 'redis', 'redis.conf'),
    s3: join(dir, 's3'),
    s3Credentials: join(dir, 's3-credentials.json'),
  };
}
export type Layout = ReturnType<typeof layout>;
