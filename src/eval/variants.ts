import type { RunOptions } from '../contracts/request.js';
import { BLOCKS, METHODS, RING_LAYOUTS, SELECTS } from '../contracts/request.js';
import { ConfigError } from '../platform/errors.js';

/** One way to run the documents: a method, and what differs from its defaults. */
export interface Variant {
  /** As the person wrote it, and as the report calls it. */
  name: string;
  method: RunOptions['method'];
  anchor?: number;
  passing?: number;
  select?: (typeof SELECTS)[number];
  blocks?: (typeof BLOCKS)[number];
  ringLayout?: (typeof RING_LAYOUTS)[number];
}

/**
 * `apb`, `apb:passing=0`, `apb:select=random:anchor=256`, `apb:blocks=balanced`, `ring:layout=contiguous`.
 * Options that do not belong to a method are left to the check of a submission.
 * @throws ConfigError
 */
export function parseVariant(name: string): Variant {
  const [head, ...parts] = name.split(':');
  const method = METHODS.find((each) => each === head);
  if (method === undefined) throw new ConfigError(`method '${head}' is none of ${METHODS.join(', ')}`);
  const variant: Variant = { name, method };
  for (const part of parts) {
    const [key, value = ''] = part.split('=');
    const select = SELECTS.find((each) => each === value);
    const blocks = BLOCKS.find((each) => each === value);
    const ringLayout = RING_LAYOUTS.find((each) => each === value);
    if ((key === 'anchor' || key === 'passing') && /^\d{1,8}$/.test(value)) variant[key] = Number(value);
    else if (key === 'select' && select !== undefined) variant.select = select;
    else if (key === 'blocks' && blocks !== undefined) variant.blocks = blocks;
    else if (key === 'layout' && ringLayout !== undefined) variant.ringLayout = ringLayout;
    else {
      throw new ConfigError(
        `'${part}' of '${name}' is none of anchor=TOKENS, passing=TOKENS, select=${SELECTS.join('|')}, blocks=${BLOCKS.join('|')}, layout=${RING_LAYOUTS.join('|')}`,
      );
    }
  }
  return variant;
}
