/** From what the person named, and the model's defaults, to the options of a batch; pure. */
import type { RunOptions } from '../contracts/request.js';
import { ConfigError } from '../platform/errors.js';
import type { Prompt } from '../text/prompt.js';

export interface ChosenOptions {
  method: RunOptions['method'];
  ranks: number;
  anchor?: number;
  passing?: number;
}

/** The engine's tiles are multiples of it. */
const MULTIPLE = 16;

/** @throws ConfigError when an option does not belong to the method. */
export function checkOptions({ method, ranks, anchor, passing }: ChosenOptions): void {
  const whole = (name: string, value: number | undefined, low: number, high: number) => {
    if (value !== undefined && !(Number.isInteger(value) && value >= low && value <= high)) {
      throw new ConfigError(`${name} ${value} must be a whole number from ${low} to ${high}`);
    }
  };
  whole('--ranks', ranks, 1, 64);
  whole('--anchor', anchor, 0, 1 << 24);
  whole('--passing', passing, 0, 1 << 24);
  if (passing !== undefined && method !== 'apb') {
    throw new ConfigError(`--passing ${passing} belongs to --method apb; leave it out with ${method}`);
  }
  if (anchor !== undefined && method === 'full') {
    throw new ConfigError(`--anchor ${anchor} belongs to --method apb and star; leave it out with full`);
  }
}

/**
 * l_a and l_p hold for the whole batch, so that one number says how its answers were made. Where
 * they are not named, they are the model's fractions of a block of the LONGEST document, rounded to
 * multiples of 16: shorter documents then see more than their share, which costs time, not quality.
 * An l_a that is not named is also large enough for the longest query.
 */
export function resolveOptions(
  chosen: ChosenOptions,
  defaults: Prompt['defaults'],
  { longestDocument, longestQuery }: { longestDocument: number; longestQuery: number },
): RunOptions {
  checkOptions(chosen);
  const { method, ranks } = chosen;
  if (method === 'full') return { method, ranks, anchor: null, passing: 0 };
  if (method === 'star') return { method, ranks, anchor: chosen.anchor ?? null, passing: 0 };
  const block = longestDocument / ranks;
  const round = (tokens: number) => Math.ceil(tokens / MULTIPLE) * MULTIPLE;
  return {
    method,
    ranks,
    anchor:
      chosen.anchor ??
      Math.max(round(block * defaults.anchor_per_block), round(2 * longestQuery), 2 * MULTIPLE),
    passing: chosen.passing ?? round(block * defaults.passing_per_block),
  };
}
