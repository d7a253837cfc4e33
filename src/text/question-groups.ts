import type { RunOptions } from '../contracts/request.js';

/** Document tokens that stand before the query in an anchor (the engine's `query_position`). */
const QUERY_POSITION = 16;

/**
 * How many query tokens one anchor takes: half of it, so that the other half shows the document's
 * beginning. Infinity where anchors carry no query.
 */
export function queryRoom(options: RunOptions): number {
  if (options.method !== 'apb' || options.ranks === 1 || options.anchor === null || options.anchor === 0) {
    return Infinity;
  }
  return Math.max(0, Math.min(Math.floor(options.anchor / 2), options.anchor - QUERY_POSITION));
}

/**
 * Splits the questions of a work item into groups that share one prefill: the queries of a group
 * stand one after the other in the anchor and fit its room. Order is kept. Returns the groups as
 * indexes into `queries`. Submit has checked that each query fits alone; one that does not still
 * gets a group of its own, and the engine refuses it.
 */
export function groupQuestions(
  queries: readonly { readonly length: number }[],
  options: RunOptions,
): number[][] {
  const room = queryRoom(options);
  const groups: number[][] = [];
  let used = Infinity;
  queries.forEach((query, index) => {
    if (groups.length === 0 || used + query.length > room) {
      groups.push([]);
      used = 0;
    }
    groups.at(-1)?.push(index);
    used += query.length;
  });
  return groups;
}
