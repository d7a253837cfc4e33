import type { Redis } from 'ioredis';
import type { BatchStatus } from '../contracts/status.js';
import { documentsQueue, QUEUE_PREFIX, redisKeys } from '../platform/keys.js';
import { knownLanes } from './lanes.js';

export type GivenBack = BatchStatus['given_back'][number];

/** Jobs that wait out a back-off, looked through; and items told. */
const LOOKED_AT = 1000;
const TOLD = 20;

/**
 * What keeps items of a batch from being run: of those that wait out a back-off and of `active`, the
 * faults that were counted.
 */
export async function givenBack(redis: Redis, id: string, active: readonly number[]): Promise<GivenBack[]> {
  const items = new Set(active);
  const delayed = await Promise.all(
    (await knownLanes(redis)).map((lane) =>
      redis.zrange(`${QUEUE_PREFIX}:${documentsQueue(lane)}:delayed`, '0', String(LOOKED_AT - 1)),
    ),
  );
  for (const job of delayed.flat()) {
    const item = job.startsWith(`${id}-`) ? /^(\d+)-document$/.exec(job.slice(id.length + 1)) : null;
    if (item !== null) items.add(Number(item[1]));
  }
  const told = [...items].sort((a, b) => a - b).slice(0, TOLD);
  const counted = await Promise.all(
    told.map(async (item): Promise<GivenBack> => {
      const [faults, last, deaths] = await redis.hmget(
        redisKeys.item(id, item),
        'infrastructure_faults',
        'last_fault',
        'engine_deaths',
      );
      return {
        item,
        infrastructure_faults: Number(faults ?? 0),
        last_fault: last ?? null,
        engine_deaths: Number(deaths ?? 0),
      };
    }),
  );
  return counted.filter((item) => item.infrastructure_faults > 0 || item.engine_deaths > 0);
}
