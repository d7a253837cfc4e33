/**
 * Lanes: queues by length, each with its cohorts. A document goes to the first lane whose bound it does not exceed, and
 * one that is longer than all of them to the queue without a name, where all go when there are no lanes. The bounds are
 * written into the batch's header, so that a document's lane never changes.
 */
import type { Redis } from 'ioredis';
import type { Lane, ManifestHeader } from '../contracts/manifest.js';
import { redisKeys } from '../platform/keys.js';
import type { BatchIndex } from './manifest.js';

/** Of the setting `lanes`; undefined: there are none. */
export function lanesSet({ lanes }: { lanes: readonly string[] }): Lane[] | undefined {
  if (lanes.length === 0) return undefined;
  return lanes.map((text) => {
    const [name = '', bound] = text.split(':');
    return { name, up_to: Number(bound) };
  });
}

/** The lane of a document of so many tokens; undefined: the queue without a name. */
export function laneOf({ lanes }: Pick<ManifestHeader, 'lanes'>, tokens: number): string | undefined {
  return lanes?.find(({ up_to }) => tokens <= up_to)?.name;
}

/** Of a work item of a batch. */
export type LaneOfItem = (item: number) => string | undefined;

export function lanesOf({ header, items }: Pick<BatchIndex, 'header' | 'items'>): LaneOfItem {
  return (item) => laneOf(header, items[item]?.[0]?.document.tokens ?? 0);
}

/** Items by their lane, in their order. */
export function byLane(items: readonly number[], lane: LaneOfItem): Map<string | undefined, number[]> {
  const found = new Map<string | undefined, number[]>();
  for (const item of items) {
    const name = lane(item);
    const others = found.get(name);
    if (others === undefined) found.set(name, [item]);
    else others.push(item);
  }
  return found;
}

/** Every lane that a batch was ever submitted to, and the queue without a name. */
export async function knownLanes(redis: Redis): Promise<(string | undefined)[]> {
  return [undefined, ...(await redis.smembers(redisKeys.lanes())).sort()];
}
