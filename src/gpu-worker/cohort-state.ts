import type { Redis } from 'ioredis';
import type { CohortState } from '../contracts/cohort.js';
import { cohortKeys, redisKeys } from '../platform/keys.js';
import type { State } from './protocol-types.js';

/** What people see of a cohort. READY and RUNNING cohorts serve; others do not, yet or any more. */
export type CohortStateName = CohortState['state'];

/** A cohort that has not written its state for this long is not there any more. */
const KEEP_MS = 24 * 3600 * 1000;

export function stateName(state: State): CohortStateName {
  switch (state.phase) {
    case 'forming':
    case 'sealed':
      return 'FORMING';
    case 'ready':
    case 'preparing':
    case 'running':
      if (state.closing) return 'DRAINING';
      return state.phase === 'ready' ? 'READY' : 'RUNNING';
    case 'aborting':
      return 'ABORTED';
    case 'gone':
      return state.closing ? 'CLOSED' : 'ABORTED';
  }
}

/** A leader that was superseded must not write over its successor's state. */
const WRITE = `
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** Written by the leader at every change and with its heartbeat; `updated_at` in Unix milliseconds. */
export async function writeCohortState(
  redis: Redis,
  cohort: string,
  fields: Omit<CohortState, 'updated_at'>,
): Promise<void> {
  const keys = cohortKeys(cohort);
  const updated_at = Date.now();
  const values = Object.entries({ ...fields, updated_at }).flat();
  await redis.eval(WRITE, 2, keys.state, keys.current, fields.generation, KEEP_MS, ...values);
  // Cohorts have hash tags of their own, so the list of them is another key's.
  await redis.zadd(redisKeys.cohorts(), updated_at, cohort);
  await redis.zremrangebyscore(redisKeys.cohorts(), 0, updated_at - KEEP_MS);
}
