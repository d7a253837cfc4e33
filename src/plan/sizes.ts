/** l_a and l_p where nobody names them; pure. */

/** As fractions of a block (document tokens / ranks). */
export interface Fractions {
  anchor_per_block: number;
  passing_per_block: number;
}

/** The engine's tiles are multiples of it. */
const MULTIPLE = 16;
const round = (tokens: number) => Math.ceil(tokens / MULTIPLE) * MULTIPLE;

/** In tokens, multiples of 16; an anchor is also large enough for the query, which fills half of it at most. */
export function defaultSizes(
  block: number,
  { anchor_per_block, passing_per_block }: Fractions,
  longestQuery: number,
): { anchor: number; passing: number } {
  return {
    anchor: Math.max(round(block * anchor_per_block), round(2 * longestQuery), 2 * MULTIPLE),
    passing: round(block * passing_per_block),
  };
}
