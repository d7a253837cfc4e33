/** A run's chosen documents to its batch. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BatchDeps } from '../../batch/queues.js';
import type { RunBatch, RunPlan, Schedule, SourceDocument } from '../../contracts/schedule.js';
import type { Config } from '../../platform/config.js';
import { ifFound, InputError, LonghaulError } from '../../platform/errors.js';
import { sourcePolicy } from '../../text/source-policy.js';
import { readHeader } from '../../batch/header.js';
import { lanesSet } from '../../batch/lanes.js';
import { readManifest } from '../../batch/manifest.js';
import { submit } from '../submit.js';

/** The same for whoever does it: two schedulers make one batch. */
export function batchOfRun(name: string, { created_at }: { created_at: number }, run: string): string {
  // With the run's start: a schedule of the same name that was removed had batches of its own.
  return `batch_${createHash('sha256').update(`schedule ${name} ${run} ${created_at}`).digest('hex').slice(0, 32)}`;
}

/** The documents that the plan chose, in its order. */
export function chosenOf({ found, chosen }: RunPlan): SourceDocument[] {
  return chosen.flatMap((place) => found[place] ?? []);
}

/**
 * Documents that no batch can take (no text, gone) are left out and told; the others are submitted, those that are too
 * long for the model in parts.
 * @throws LonghaulError `NO_DOCUMENT_TAKEN` when none is left.
 */
export async function submitRun(
  deps: BatchDeps,
  config: Config,
  { prompt, max_tokens, priority, overlap, then_prompt }: Schedule,
  { id, documents }: { id: string; documents: readonly SourceDocument[] },
  signal?: AbortSignal,
): Promise<RunBatch> {
  const refused = new Map<string, string>();
  // An earlier try, or another scheduler, has made it; documents may have changed since.
  if ((await ifFound(readHeader(deps.store, id, signal))) !== undefined) {
    const { requests } = await readManifest(deps.store, id, signal);
    const parts = new Map(requests.map(({ custom_id, part }) => [part?.of ?? custom_id, part?.count ?? 1]));
    const message = 'was refused when the batch was made';
    const left = documents.filter(({ url }) => !parts.has(requestId(url)));
    return {
      batch_id: id,
      refused: left.map(({ url }) => ({ url, message })),
      split: splitOf(documents, parts),
    };
  }
  const directory = await mkdtemp(join(tmpdir(), 'longhaul-schedule-'));
  const file = join(directory, 'requests.jsonl');
  try {
    for (;;) {
      const rest = documents.filter(({ url }) => !refused.has(url));
      if (rest.length === 0) {
        const [first] = refused;
        throw new LonghaulError(
          'NO_DOCUMENT_TAKEN',
          `none of ${documents.length} documents could be taken; the first, ${first?.[0]}: ${first?.[1]}`,
        );
      }
      const lines = rest.map(({ url }) =>
        JSON.stringify({
          custom_id: requestId(url),
          document: { url },
          question: prompt,
          max_tokens,
        }),
      );
      await writeFile(file, lines.join('\n') + '\n');
      try {
        const { split } = await submit(deps, {
          file,
          policy: sourcePolicy(config),
          modelDir: config.modelDir,
          headsFile: config.headsFile,
          options: { method: 'apb', ranks: config.ranks },
          id,
          priority,
          split: { overlap, question: then_prompt },
          lanes: lanesSet(config),
          signal,
        });
        return {
          batch_id: id,
          refused: [...refused].map(([url, message]) => ({ url, message })),
          split: splitOf(documents, new Map(split.map(({ custom_id, parts }) => [custom_id, parts]))),
        };
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        const before = refused.size;
        for (const { line, field, message } of error.problems) {
          const document = rest[line - 1];
          // A problem of the prompt is no document's, and would be every line's.
          if (document !== undefined && field.startsWith('document')) refused.set(document.url, message);
        }
        if (refused.size === before) throw error;
      }
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function splitOf(
  documents: readonly SourceDocument[],
  parts: ReadonlyMap<string, number>,
): RunBatch['split'] {
  return documents.flatMap(({ url }) => {
    const count = parts.get(requestId(url)) ?? 1;
    return count > 1 ? [{ url, parts: count }] : [];
  });
}

/** A request's `custom_id`: the document's URL, or a hash where that is too long. */
export function requestId(url: string): string {
  return url.length <= 256 ? url : `sha256:${createHash('sha256').update(url).digest('hex')}`;
}
