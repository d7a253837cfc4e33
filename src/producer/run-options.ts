/** From what the person named, and the model's defaults, to the options of a batch; pure. */
import type { RunOptions } from '../contracts/request.js';
import { defaultSizes } from '../plan/sizes.js';
import { ConfigError, UnsupportedError } from '../platform/errors.js';
import type { Prompt } from '../text/prompt.js';

export interface ChosenOptions {
  method: RunOptions['method'];
  ranks: number;
  anchor?: number;
  passing?: number;
  ringLayout?: NonNullable<RunOptions['ring_layout']>;
  blocks?: RunOptions['blocks'];
  select?: NonNullable<RunOptions['select']>;
  anchorQuery?: NonNullable<RunOptions['anchor_query']>;
}

/** What the model can do. */
export interface ModelFacts {
  queryHeads: number;
  hasRetainingHeads: boolean;
}

/** @throws ConfigError when an option does not belong to the method. */
export function checkOptions(chosen: ChosenOptions): void {
  const { method, ranks, anchor, passing, ringLayout, blocks, select, anchorQuery } = chosen;
  const whole = (name: string, value: number | undefined, low: number, high: number) => {
    if (value !== undefined && !(Number.isInteger(value) && value >= low && value <= high)) {
      throw new ConfigError(`${name} ${value} must be a whole number from ${low} to ${high}`);
    }
  };
  whole('--ranks', ranks, 1, 64);
  whole('--anchor', anchor, 0, 1 << 24);
  whole('--passing', passing, 0, 1 << 24);
  const belongs = (name: string, value: number | string | undefined, ...methods: RunOptions['method'][]) => {
    if (value !== undefined && !methods.includes(method)) {
      throw new ConfigError(
        `${name} ${value} belongs to --method ${methods.join(' and ')}; leave it out with ${method}`,
      );
    }
  };
  belongs('--passing', passing, 'apb');
  belongs('--select', select, 'apb');
  belongs('--anchor-query', anchorQuery, 'apb');
  belongs('--anchor', anchor, 'apb', 'star');
  belongs('--ring-layout', ringLayout, 'ring');
  if (blocks !== 'balanced') return;
  if (ringLayout === 'zigzag') {
    throw new ConfigError(
      '--ring-layout zigzag balances the ranks by itself; leave out --blocks balanced, or choose contiguous',
    );
  }
  if (method === 'star' && anchor === undefined) {
    throw new ConfigError(
      '--blocks balanced needs an --anchor with --method star, whose own anchor is as long as the first block',
    );
  }
}

/**
 * @throws UnsupportedError when the model cannot be run by this method on so many ranks; ConfigError
 * when it lacks what the selection needs.
 */
export function checkModel(chosen: ChosenOptions, { queryHeads, hasRetainingHeads }: ModelFacts): void {
  const { method, ranks, select, anchor, passing, anchorQuery } = chosen;
  if (method === 'ulysses' && queryHeads % ranks !== 0) {
    throw new UnsupportedError(
      `--method ulysses gives every rank as many query heads, and ${ranks} ranks do not divide the model's ${queryHeads}; use a number of ranks that does, or --method ring`,
    );
  }
  if (method !== 'apb' || ranks === 1 || passing === 0) return;
  if (select === 'heads' && !hasRetainingHeads) {
    throw new ConfigError(
      '--select heads needs retaining heads, and the model has none; name them with headsFile, or use --select spava',
    );
  }
  const without =
    anchor === 0
      ? '--anchor is 0; give an anchor'
      : anchorQuery === 'none'
        ? '--anchor-query is none; leave it out'
        : undefined;
  if (without !== undefined && (select ?? (hasRetainingHeads ? 'heads' : 'spava')) === 'spava') {
    throw new ConfigError(
      `--select spava${select === undefined ? ' (the default for a model without retaining heads)' : ''} takes the query from the anchor, and ${without}, or give --passing 0`,
    );
  }
}

/**
 * l_a and l_p hold for the whole batch, so that one number says how its answers were made. Where
 * they are not named, they are the model's fractions of a block of the LONGEST document, rounded to
 * multiples of 16: shorter documents then see more than their share, which costs time, not quality.
 * An l_a that is not named is also large enough for the longest query, where the anchor carries one.
 * The selection is by retaining heads where the model has some, else training-free.
 */
export function resolveOptions(
  chosen: ChosenOptions,
  defaults: Prompt['defaults'],
  facts: { longestDocument: number; longestQuery: number; hasRetainingHeads: boolean },
): RunOptions {
  checkOptions(chosen);
  const { method, ranks, blocks = 'even' } = chosen;
  const common = { method, ranks, blocks, anchor: null, passing: 0, ring_layout: null, select: null };
  switch (method) {
    case 'full':
    case 'ulysses':
      return common;
    case 'ring':
      // Zigzag balances a ring by itself.
      return { ...common, ring_layout: chosen.ringLayout ?? (blocks === 'even' ? 'zigzag' : 'contiguous') };
    case 'star':
      return { ...common, anchor: chosen.anchor ?? null };
    case 'apb': {
      const { longestDocument, longestQuery, hasRetainingHeads } = facts;
      const { anchorQuery = 'all' } = chosen;
      const carried = anchorQuery === 'none' ? 0 : longestQuery;
      const sizes = defaultSizes(longestDocument / ranks, defaults, carried);
      return {
        ...common,
        anchor: chosen.anchor ?? sizes.anchor,
        passing: chosen.passing ?? sizes.passing,
        select: chosen.select ?? (hasRetainingHeads ? 'heads' : 'spava'),
        anchor_query: anchorQuery,
      };
    }
  }
}
