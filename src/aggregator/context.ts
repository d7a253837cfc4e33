import { UnrecoverableError } from 'bullmq';
import type { ManifestCache } from '../batch/manifest-cache.js';
import type { BatchDeps, Queues } from '../batch/queues.js';
import type { IndexedManifest } from '../batch/manifest.js';
import { restoreBatch, type Restored } from '../batch/restore.js';
import type { WorkerContext } from '../batch/worker.js';
import type { Config } from '../platform/config.js';
import { NotFoundError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { Tokenizer } from '../text/tokenizer.js';

/** What the parts of one aggregator process share. */
export interface AggregatorContext extends BatchDeps, WorkerContext {
  config: Config;
  queues: Queues;
  manifests: ManifestCache;
  /** Of the setting `modelDir`; opened when it is first needed, which is for answers of parts alone. */
  tokenizer: () => Promise<Tokenizer>;
}

/** The manifest of a job's batch. Without one the job has no sense: it fails for good, alone of all errors. */
export async function manifestOf({ manifests }: AggregatorContext, id: string): Promise<IndexedManifest> {
  try {
    return await manifests.get(id);
  } catch (error) {
    throw error instanceof NotFoundError ? new UnrecoverableError(error.message) : error;
  }
}

/** Whether the batch is still there: a manifest kept in memory must not bring back one that was removed. */
export async function isLiving(
  { store, manifests }: AggregatorContext,
  id: string,
  signal?: AbortSignal,
): Promise<boolean> {
  if (await store.exists(objectKeys.manifest(id), signal)) return true;
  manifests.drop(id);
  return false;
}

/** `restoreBatch` of a batch that is still there. */
export async function restoreLiving(
  context: AggregatorContext,
  manifest: IndexedManifest,
  signal?: AbortSignal,
): Promise<Restored | undefined> {
  const living = await isLiving(context, manifest.header.batch_id, signal);
  return living ? restoreBatch(context, manifest, signal) : undefined;
}
