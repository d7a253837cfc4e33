import type { RunOptions } from '../contracts/request.js';

/** Document tokens that stand before the query in an anchor (the engine's `query_position`). */
const QUERY_POSITION = 16;

/**
 * How many query tokens one anchor takes: half of it, so that the other half shows the document's
 * beginning. Infinity where anchors carry no query.
 */
export function queryRoom(options: RunOptions): number {
  const { method, ranks, anchor, anchor_query } = options;
  if (method !== 'apb' || ranks === 1 || anchor === null || anchor === 0 || anchor_query === 'none') {
    return Infinity;
  }
  return Math.max(0, Math.min(Math.floor(anchor / 2), anchor - QUERY_POSITION));
}

/**
 * Splits the questions of a work item into groups that share one prefill: the queries of a group
 * stand one after the other in the anchor and fit its room, or are one where `anchor_query` says so. Order is kept. Returns the groups as
 * indexes into `queries`. Submit has checked that each query fits alone; one that does not still
 * gets a group of its own, and the engine refuses it.
 */
export function groupQuestions(
  queries: readonly { readonly length: number }[],
  options: RunOptions,
): number[][] {
  const room = queryRoom(options);
  const alone = options.anchor_query === 'one' && room < Infinity;
  const groups: number[][] = [];
  let used = Infinity;
  queries.forEach((query, index) => {
    if (groups.length === 0 || alone || used + query.length > room) {
      groups.push([]);
      used = 0;
    }
    groups.at(-1)?.push(index);
    used += query.length;
  });
  return groups;
}
