import type { LayoutOptions } from '../engine/engine.js';
import type { Case } from './case.js';

/** A case's fields as the engine's layout options. */
export function layoutOf(input: Case['input']): LayoutOptions {
  return {
    method: input.method,
    ranks: input.ranks,
    documentTokens: input.doc.length,
    queryTokens: input.query.length,
    anchorLength: input.anchor_len,
    passingLength: input.passing_len,
    queryPosition: input.query_position,
    blocks: input.blocks,
    ringLayout: input.ring_layout,
  };
}
