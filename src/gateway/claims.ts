import { z } from 'zod';
import { gatewayKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { ApiError } from './api-error.js';
import { createRecord, readRecord } from './records.js';

const claim = z.strictObject({
  format: z.literal('longhaul-gateway-claim/1'),
  id: z.string(),
  /** sha256 of what was asked for. */
  request: z.string(),
});

const KEY = /^[\x21-\x7e]{1,255}$/;

/**
 * The id that an Idempotency-Key stands for: the given one, or that of the first request with this key. What the first one
 * did not get to, its repetition does, since it makes the same objects.
 * @throws ApiError when the first one asked for something else.
 */
export async function claimId(
  store: ObjectStore,
  owner: string,
  kind: 'batch' | 'file',
  key: string,
  { id, request }: { id: string; request: string },
): Promise<string> {
  if (!KEY.test(key))
    throw new ApiError(
      400,
      'invalid_idempotency_key',
      'an Idempotency-Key has 1 to 255 visible ASCII characters',
    );
  const object = gatewayKeys.claim(owner, kind, key);
  const ours = { format: 'longhaul-gateway-claim/1', id, request };
  if ((await createRecord(store, object, ours)) === 'created') return id;
  const first = await readRecord(store, object, claim);
  if (first?.request === request) return first.id;
  throw idempotencyConflict(key);
}

export const idempotencyConflict = (key: string): ApiError =>
  new ApiError(
    409,
    'idempotency_conflict',
    `the Idempotency-Key ${JSON.stringify(key)} stands for another request; use another key`,
  );
