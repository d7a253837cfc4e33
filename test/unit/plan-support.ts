/** What the tests of the planner share. */
import type { PlanFacts } from '../../src/plan/choose.js';
import type { Speeds, Way } from '../../src/plan/cost.js';
import { readModelShape } from '../../src/plan/model-shape.js';

const shape = await readModelShape('models/demo');
const byKind = (value: number) => ({ alone: value, full: value, ring: value, ulysses: value, apb: value });

/** About those of one processor: 25 GFLOP/s in products, 30 in attention. */
export function speedsOf({ linear = 4e-11, attention = 3.3e-11, received = 0 } = {}): Speeds {
  return {
    linear: byKind(linear),
    attention: byKind(attention),
    received: byKind(received),
    rates: { rowSeconds: linear * 1.2e7, pairSeconds: attention * 8192 },
  };
}

/** The demo model, on ranks that each have a place of their own. */
export function facts({
  places = Infinity,
  ...speeds
}: Parameters<typeof speedsOf>[0] & { places?: number } = {}): PlanFacts {
  return {
    shape,
    speeds: speedsOf(speeds),
    places,
    fractions: { anchor_per_block: 0.25, passing_per_block: 0.125 },
  };
}

export const plain = (method: Way['method'], ranks: number): Way => ({
  method,
  ranks,
  ring_layout: null,
  blocks: 'even',
  anchor: null,
  passing: 0,
});
