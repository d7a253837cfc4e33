/** A batch's documents (its work items), and one of them in full. */
import { z } from 'zod';
import { listDead } from '../batch/dead.js';
import { givenBack } from '../batch/given-back.js';
import { lanesOf } from '../batch/lanes.js';
import type { ManifestCache } from '../batch/manifest-cache.js';
import type { IndexedManifest } from '../batch/manifest.js';
import type { BatchDeps } from '../batch/queues.js';
import { readOutcomes } from '../batch/read-outcomes.js';
import { recordedStatuses } from '../batch/record.js';
import { getStatus } from '../batch/status.js';
import { readSuccess } from '../batch/success.js';
import { readUnanswered } from '../batch/unanswered.js';
import type { ManifestRequest } from '../contracts/manifest.js';
import { outcome, type Outcome, type OutcomeStatus } from '../contracts/outcome.js';
import type { BatchStatus } from '../contracts/status.js';
import { itemTimeline, type ItemTimeline } from '../contracts/timeline.js';
import { NotFoundError } from '../platform/errors.js';
import { documentsQueue, jobIds, objectKeys, QUEUE_PREFIX } from '../platform/keys.js';
import type { DocumentDetail, DocumentPage, DocumentRow, DocumentState } from './api.js';

export interface DocumentQuery {
  state?: DocumentState;
  /** Part of a custom_id. */
  search?: string;
  offset: number;
  limit: number;
}

type Ends = ReadonlyMap<number, OutcomeStatus>;

/** Ends of finished batches that are kept; they do not change. */
const MAX_FINISHED = 10;
/** Those of a batch under way are asked for again after this. */
const FRESH_MS = 1_000;

export class Documents {
  private readonly finished = new Map<string, Ends>();
  private readonly recent = new Map<string, { at: number; ends: Ends }>();

  constructor(
    private readonly deps: BatchDeps,
    private readonly manifests: ManifestCache,
  ) {}

  /** @throws NotFoundError */
  async page(id: string, { state, search, offset, limit }: DocumentQuery): Promise<DocumentPage> {
    const status = await getStatus(this.deps, id);
    const manifest = await this.manifests.get(id);
    const ends = await this.ends(manifest, status);
    const wanted = search?.toLowerCase();
    const rows: DocumentRow[] = [];
    let total = 0;
    for (const [item, requests] of manifest.items.entries()) {
      if (wanted !== undefined && !requests.some(({ custom_id }) => custom_id.toLowerCase().includes(wanted)))
        continue;
      const is = stateOf(item, requests, ends, status);
      if (state !== undefined && is !== state) continue;
      if (total >= offset && rows.length < limit) rows.push(rowOf(item, requests, is));
      total += 1;
    }
    return { total, offset, rows };
  }

  /** @throws NotFoundError */
  async detail(id: string, item: number): Promise<DocumentDetail> {
    const { store, redis } = this.deps;
    const status = await getStatus(this.deps, id);
    const manifest = await this.manifests.get(id);
    const requests = manifest.items[item];
    const [first] = requests ?? [];
    if (requests === undefined || first === undefined)
      throw new NotFoundError(`batch ${id} has no document ${item}; it has ${manifest.items.length}`);
    const job = `${QUEUE_PREFIX}:${documentsQueue(lanesOf(manifest)(item))}:${jobIds.document(id, item)}`;
    const firstOutcome = objectKeys.outcome(id, first.ordinal, first.custom_id);
    const [outcomes, timeline, committed, dead, back, queued] = await Promise.all([
      this.outcomes(manifest, requests),
      this.timeline(id, item),
      store.modifiedAt(firstOutcome),
      listDead(this.deps, { batch: id }),
      givenBack(redis, id, [item]),
      redis.hget(job, 'timestamp'),
    ]);
    const ends = new Map([...outcomes].map(([ordinal, end]) => [ordinal, end.status]));
    return {
      batch_id: id,
      input: manifest.header.input,
      item,
      items: manifest.items.length,
      state: stateOf(item, requests, ends, status),
      document: { ...first.document, url: store.url(objectKeys.document(first.document.sha256)) },
      requests: requests.map(({ ordinal, custom_id, questions, max_tokens }) => ({
        ordinal,
        custom_id,
        questions,
        max_tokens,
        outcome: outcomes.get(ordinal) ?? null,
        url: store.url(objectKeys.outcome(id, ordinal, custom_id)),
      })),
      running: status.active.find((active) => active.item === item) ?? null,
      given_back: back.find((given) => given.item === item) ?? null,
      queued_at: timeline?.queued_at ?? (queued === null ? null : Number(queued)),
      timeline,
      committed_at: outcomes.size === 0 ? null : (committed?.getTime() ?? null),
      dead: dead.find((one) => one.item === item) ?? null,
    };
  }

  /** How requests ended: from Redis while the batch is under way, from S3 afterwards. */
  private async ends(manifest: IndexedManifest, status: BatchStatus): Promise<Ends> {
    const { id } = status;
    if (status.completed_at === null) {
      const known = this.recent.get(id);
      if (known !== undefined && performance.now() - known.at < FRESH_MS) return known.ends;
      const ends = await recordedStatuses(this.deps.redis, id);
      this.recent.clear();
      this.recent.set(id, { at: performance.now(), ends });
      return ends;
    }
    const known = this.finished.get(id);
    if (known !== undefined) return known;
    const success = await readSuccess(this.deps.store, id);
    if (success === undefined) return recordedStatuses(this.deps.redis, id);
    const unanswered = await readUnanswered(this.deps.store, manifest, success);
    const ends = new Map(
      manifest.requests.map(({ ordinal }) => [ordinal, unanswered.get(ordinal) ?? ('answered' as const)]),
    );
    this.finished.set(id, ends);
    for (const old of this.finished.keys()) {
      if (this.finished.size <= MAX_FINISHED) break;
      this.finished.delete(old);
    }
    return ends;
  }

  private async outcomes(
    manifest: IndexedManifest,
    requests: readonly ManifestRequest[],
  ): Promise<Map<number, Outcome>> {
    const { store } = this.deps;
    const id = manifest.header.batch_id;
    const found = new Map<number, Outcome>();
    const there: number[] = [];
    await Promise.all(
      requests.map(async ({ ordinal, custom_id }) => {
        if (await store.exists(objectKeys.outcome(id, ordinal, custom_id))) there.push(ordinal);
      }),
    );
    for await (const one of readOutcomes(store, manifest, there)) found.set(one.ordinal, outcome.parse(one));
    return found;
  }

  private async timeline(id: string, item: number): Promise<ItemTimeline | null> {
    try {
      const bytes = await this.deps.store.get(objectKeys.timeline(id, item));
      return itemTimeline.parse(JSON.parse(bytes.toString('utf8')));
    } catch (error) {
      // An item that failed, or one of a version that kept none.
      if (error instanceof NotFoundError || error instanceof z.ZodError) return null;
      throw error;
    }
  }
}

function rowOf(item: number, requests: readonly ManifestRequest[], state: DocumentState): DocumentRow {
  const [first] = requests;
  return {
    item,
    sha256: first?.document.sha256 ?? '',
    tokens: first?.document.tokens ?? 0,
    requests: requests.length,
    custom_id: first?.custom_id ?? '',
    state,
  };
}

/** The worst end among its requests; before all have ended, where the item is. */
function stateOf(
  item: number,
  requests: readonly ManifestRequest[],
  ends: Ends,
  { active, given_back }: Pick<BatchStatus, 'active' | 'given_back'>,
): DocumentState {
  const found = new Set(requests.map(({ ordinal }) => ends.get(ordinal)));
  if (found.has(undefined)) {
    if (active.some((one) => one.item === item)) return 'running';
    return given_back.some((one) => one.item === item) ? 'given back' : 'waiting';
  }
  const worst = (['failed', 'expired', 'cancelled'] as const).find((end) => found.has(end));
  return worst ?? 'answered';
}
