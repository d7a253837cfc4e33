import type { Outcome } from '../contracts/outcome.js';
import type { BatchStatus } from '../contracts/status.js';
import { readManifest, type IndexedManifest } from './manifest.js';
import { objectLines } from './object-lines.js';
import type { BatchDeps } from './queues.js';
import { readOutcomes } from './read-outcomes.js';
import { recordedStatuses } from './record.js';
import { readSuccess } from './success.js';
import { customIdOf } from './unanswered.js';

/** A batch's first failures as they come, each told once. */
export class Failures {
  private readonly told = new Set<number>();
  private manifest: IndexedManifest | undefined;

  /** `limit`: no more than so many are told; `error.jsonl` has all. */
  constructor(
    private readonly deps: BatchDeps,
    private readonly id: string,
    private readonly limit: number,
  ) {}

  /** Those that have come since the last call. */
  async next(
    { request_counts: { failed } }: Pick<BatchStatus, 'request_counts'>,
    signal?: AbortSignal,
  ): Promise<Outcome[]> {
    const wanted = Math.min(failed, this.limit) - this.told.size;
    if (wanted <= 0) return [];
    this.manifest ??= await readManifest(this.deps.store, this.id, signal);
    const found: Outcome[] = [];
    for await (const ordinal of this.candidates(this.manifest, signal)) {
      if (this.told.has(ordinal)) continue;
      for await (const outcome of readOutcomes(this.deps.store, this.manifest, [ordinal], signal)) {
        if (outcome.status === 'failed') found.push(outcome);
      }
      if (found.length === wanted) break;
    }
    for (const { ordinal } of found) this.told.add(ordinal);
    return found;
  }

  /** Requests that may have failed: as Redis knows while the batch is under way, then those of `error.jsonl`. */
  private async *candidates(manifest: IndexedManifest, signal?: AbortSignal): AsyncGenerator<number> {
    const { redis, store } = this.deps;
    const success = await readSuccess(store, this.id, signal);
    if (success === undefined) {
      for (const [ordinal, status] of await recordedStatuses(redis, this.id)) {
        if (status === 'failed') yield ordinal;
      }
      return;
    }
    const ordinals = new Map(manifest.requests.map(({ custom_id, ordinal }) => [custom_id, ordinal]));
    for await (const line of objectLines(store, success.files.error, signal)) {
      const ordinal = ordinals.get(customIdOf(line));
      if (ordinal !== undefined) yield ordinal;
    }
  }
}
