import type { Redis } from 'ioredis';
import { cohortState, rankReport, type CohortState, type RankReport } from '../contracts/cohort.js';
import { cohortKeys, redisKeys } from '../platform/keys.js';

export type Cohort = { name: string } & CohortState;

/** What each cohort last said about itself, by name. A cohort that is gone is told for a day. */
export async function listCohorts(redis: Redis): Promise<Cohort[]> {
  const names = (await redis.zrange(redisKeys.cohorts(), '0', '-1')).sort();
  const found = await Promise.all(
    names.map(async (name) => {
      const state = cohortState.safeParse(await redis.hgetall(cohortKeys(name).state));
      return state.success ? { name, ...state.data } : undefined;
    }),
  );
  return found.filter((cohort) => cohort !== undefined);
}

/** The last heartbeat of each rank of a cohort's present generation; null: none that has not expired. */
export async function readRanks(
  redis: Redis,
  { name, generation, ranks }: Pick<Cohort, 'name' | 'generation' | 'ranks'>,
): Promise<(RankReport | null)[]> {
  const keys = Array.from({ length: ranks }, (_, rank) => cohortKeys(name).heartbeat(generation, rank));
  return (await redis.mget(keys)).map((beat) => {
    if (beat === null) return null;
    try {
      return rankReport.parse(JSON.parse(beat));
    } catch {
      return null;
    }
  });
}
