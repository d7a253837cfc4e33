import type { RunOptions } from '../contracts/request.js';
import { ANCHOR_QUERIES, BLOCKS, METHODS, RING_LAYOUTS, SELECTS } from '../contracts/request.js';
import { ConfigError } from '../platform/errors.js';

/** One way to run the documents: a method, and what differs from its defaults. */
export interface Variant {
  /** As the person wrote it, and as the report calls it. */
  name: string;
  /** Of `all`: left out, not refused, where the model cannot be run so. */
  optional: boolean;
  /** Default: the configuration's. */
  ranks?: number;
  /** In place of the model's own shares of a block. */
  shares: { anchor_per_block?: number; passing_per_block?: number };
  options: {
    method: RunOptions['method'];
    anchor?: number;
    passing?: number;
    select?: (typeof SELECTS)[number];
    anchorQuery?: (typeof ANCHOR_QUERIES)[number];
    blocks?: (typeof BLOCKS)[number];
    ringLayout?: (typeof RING_LAYOUTS)[number];
  };
}

/** Exact ways, ablations of apb, other sizes, other numbers of ranks. */
const ALL = [
  'full',
  'ring',
  'ring:layout=contiguous',
  'ulysses',
  'star',
  'apb',
  'apb:blocks=balanced',
  'apb:query=none',
  'apb:passing=0',
  'apb:select=random',
  'apb:select=spava',
  'apb:anchor=12%',
  'apb:anchor=50%',
  'apb:passing=6%',
  'apb:passing=25%',
  'full:ranks=1',
  'apb:ranks=2',
  'apb:ranks=4',
  'apb:ranks=8',
];

/**
 * `all`, or names like `apb`, `apb:passing=0`, `apb:select=random:anchor=25%`, `full:ranks=1`, separated by commas.
 * Options that do not belong to a method are left to the check of a submission.
 * @throws ConfigError
 */
export function parseVariants(text: string): Variant[] {
  const names = text.split(',');
  const variants = names.flatMap((name) =>
    name === 'all' ? ALL.map((each) => parseVariant(each, true)) : [parseVariant(name, false)],
  );
  return [...new Map(variants.map((variant) => [variant.name, variant])).values()];
}

function parseVariant(name: string, optional: boolean): Variant {
  const [head, ...parts] = name.split(':');
  const method = METHODS.find((each) => each === head);
  if (method === undefined) {
    throw new ConfigError(`method '${head}' is none of ${METHODS.join(', ')}, nor all`);
  }
  const variant: Variant = { name, optional, shares: {}, options: { method } };
  for (const part of parts) {
    if (set(variant, part)) continue;
    throw new ConfigError(
      `'${part}' of '${name}' is none of ranks=N, anchor=TOKENS, anchor=PERCENT%, passing=TOKENS, passing=PERCENT%, query=${ANCHOR_QUERIES.join('|')}, select=${SELECTS.join('|')}, blocks=${BLOCKS.join('|')}, layout=${RING_LAYOUTS.join('|')}`,
    );
  }
  return variant;
}

/** @returns false for a part that says nothing known. */
function set(variant: Variant, part: string): boolean {
  const [key, value = ''] = part.split('=');
  const { options, shares } = variant;
  const choose = <T extends string>(known: readonly T[], keep: (choice: T) => void) => {
    const choice = known.find((each) => each === value);
    if (choice !== undefined) keep(choice);
    return choice !== undefined;
  };
  switch (key) {
    case 'ranks':
      variant.ranks = Number(value);
      return /^\d{1,2}$/.test(value);
    case 'anchor':
    case 'passing':
      if (/^\d{1,2}%$/.test(value)) shares[`${key}_per_block`] = Number(value.slice(0, -1)) / 100;
      else options[key] = Number(value);
      return /^(\d{1,8}|\d{1,2}%)$/.test(value);
    case 'query':
      return choose(ANCHOR_QUERIES, (choice) => (options.anchorQuery = choice));
    case 'select':
      return choose(SELECTS, (choice) => (options.select = choice));
    case 'blocks':
      return choose(BLOCKS, (choice) => (options.blocks = choice));
    case 'layout':
      return choose(RING_LAYOUTS, (choice) => (options.ringLayout = choice));
    default:
      return false;
  }
}
