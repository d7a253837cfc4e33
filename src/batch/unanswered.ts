import type { OutcomeStatus, Success } from '../contracts/outcome.js';
import { StoreError } from '../platform/errors.js';
import type { ObjectStore } from '../platform/object-store.js';
import type { IndexedManifest } from './manifest.js';
import { objectLines } from './object-lines.js';
import { readOutcomes } from './read-outcomes.js';

/** How a request ends that has no answer. */
export type Unanswered = Exclude<OutcomeStatus, 'answered'>;

/**
 * How the requests without an answer of a finished batch ended, by ordinal. `error.jsonl` names them,
 * in whatever shape its lines are; their outcomes say the rest.
 * @throws StoreError `ERROR_FILE` when it does not name as many as `_SUCCESS` counts.
 */
export async function readUnanswered(
  store: ObjectStore,
  manifest: IndexedManifest,
  { files, counts }: Success,
  signal?: AbortSignal,
): Promise<Map<number, Unanswered>> {
  const named = new Set<string>();
  for await (const line of objectLines(store, files.error, signal)) named.add(customIdOf(line));
  const ordinals = manifest.requests.filter((r) => named.has(r.custom_id)).map(({ ordinal }) => ordinal);
  const ends = new Map<number, Unanswered>();
  for await (const { ordinal, status } of readOutcomes(store, manifest, ordinals, signal)) {
    if (status !== 'answered') ends.set(ordinal, status);
  }
  const expected = counts.total - counts.answered;
  if (named.size !== expected || ends.size !== expected) {
    throw new StoreError(
      'ERROR_FILE',
      `${store.url(files.error.key)} names ${ends.size} requests without an answer, _SUCCESS says ${expected}; the object was changed after the batch finished`,
    );
  }
  return ends;
}

/** Of a line of `output.jsonl` or `error.jsonl`. */
export function customIdOf(line: Buffer): string {
  return (JSON.parse(line.toString('utf8')) as { custom_id: string }).custom_id;
}
