import type { LayoutOptions } from '../engine/engine.js';
import type { Case } from './case.js';

/** The query tokens that a case's anchor carries. */
export function anchorQuery({ query, anchor_query }: Case['input']): number[] {
  return anchor_query === 'none' ? [] : query;
}

/** A case's fields as the engine's layout options. */
export function layoutOf(input: Case['input']): LayoutOptions {
  return {
    method: input.method,
    ranks: input.ranks,
    documentTokens: input.doc.length,
    queryTokens: anchorQuery(input).length,
    anchorLength: input.anchor_len,
    passingLength: input.passing_len,
    queryPosition: input.query_position,
    blocks: input.blocks,
    ringLayout: input.ring_layout,
  };
}
