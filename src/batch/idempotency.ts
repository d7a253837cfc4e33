import { z } from 'zod';
import { digest } from '../contracts/manifest.js';
import { LonghaulError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import { canonicalJson } from './canonical.js';
import type { BatchDeps } from './queues.js';

const claim = z.strictObject({
  format: z.literal('longhaul-idempotency/1'),
  batch_id: z.string(),
  /** `contentDigest` of the batch. */
  content: digest,
});

/**
 * Binds a key of the person's to a batch, for good: the first to claim it decides. Returns the id of
 * the batch that the key stands for, which is another than the given one when the same content was
 * submitted with this key before; that submit may still be under way, or have died.
 * @throws LonghaulError `IDEMPOTENCY_CONFLICT` when the key stands for other content.
 */
export async function claimIdempotencyKey(
  { store }: Pick<BatchDeps, 'store'>,
  key: string,
  { batchId, content }: { batchId: string; content: string },
  signal?: AbortSignal,
): Promise<string> {
  const object = objectKeys.idempotency(key);
  const ours = { format: 'longhaul-idempotency/1', batch_id: batchId, content };
  if ((await store.create(object, canonicalJson(ours) + '\n', signal)) === 'created') return batchId;
  const parsed = claim.safeParse(JSON.parse((await store.get(object, signal)).toString('utf8')));
  if (!parsed.success) {
    throw new LonghaulError('IDEMPOTENCY_CORRUPT', `${store.url(object)} is not a claim of a key; remove it`);
  }
  const first = parsed.data;
  if (first.content !== content) {
    throw new LonghaulError(
      'IDEMPOTENCY_CONFLICT',
      `idempotency key ${JSON.stringify(key)} stands for batch ${first.batch_id}, which has other requests, options or model; use another key`,
    );
  }
  return first.batch_id;
}
