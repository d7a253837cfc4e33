/**
 * API keys: in S3, by their hash. A key has 256 random bits, so a fast hash of it gives nothing away. The name
 * of a key is the owner of what it makes: keys of one name, as while one replaces another, see the same.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { unixNow } from '../batch/flags.js';
import { TENANT } from '../contracts/manifest.js';
import { ConfigError, NotFoundError } from '../platform/errors.js';
import { gatewayKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { createRecord, readRecord, sha256 } from './records.js';

const FRESH_MS = 2_000;

const limits = z.strictObject({
  requests_per_minute: z.int().min(1),
  /** Uploaded. */
  bytes_per_day: z.int().min(1),
  /** That have not ended. */
  batches: z.int().min(1),
});
export type Limits = z.infer<typeof limits>;

export const DEFAULT_LIMITS: Limits = {
  requests_per_minute: 600,
  bytes_per_day: 10 * 1024 ** 3,
  batches: 100,
};

const keyRecord = z.strictObject({
  format: z.literal('longhaul-gateway-key/1'),
  owner: z.string().regex(TENANT),
  /** Unix seconds. */
  created_at: z.int(),
  limits,
});

export interface ApiKey {
  /** For people: the start of its hash. */
  id: string;
  owner: string;
  created_at: number;
  limits: Limits;
}

const HASH = /^gateway\/keys\/([0-9a-f]{64})\.json$/;
const idOf = (hash: string): string => `key_${hash.slice(0, 16)}`;

/** The secret is returned here and kept nowhere. @throws ConfigError for a name that cannot be part of a key in S3. */
export async function addKey(
  store: ObjectStore,
  owner: string,
  chosen: Partial<Limits>,
): Promise<ApiKey & { secret: string }> {
  if (!TENANT.test(owner)) {
    throw new ConfigError(
      `the name ${JSON.stringify(owner)} of a key must be 1 to 64 letters, digits, - and _, and begin with a letter or digit`,
    );
  }
  const secret = `lh-${randomBytes(32).toString('base64url')}`;
  const hash = sha256(secret);
  const created_at = unixNow();
  const checked = limits.safeParse({ ...DEFAULT_LIMITS, ...chosen });
  if (!checked.success) throw new ConfigError(`limits of a key: ${z.prettifyError(checked.error)}`);
  const own = { owner, created_at, limits: checked.data };
  await createRecord(store, gatewayKeys.key(hash), { format: 'longhaul-gateway-key/1', ...own });
  return { id: idOf(hash), ...own, secret };
}

/** By name. */
export async function listKeys(store: ObjectStore): Promise<ApiKey[]> {
  const found = [...(await readKeys(store, new Map())).values()];
  return found.sort((a, b) => (a.owner < b.owner ? -1 : a.owner > b.owner ? 1 : a.created_at - b.created_at));
}

/** Gateways refuse it within two seconds. @throws NotFoundError */
export async function revokeKey(store: ObjectStore, id: string): Promise<void> {
  for await (const [hash, key] of hashes(store)) if (idOf(hash) === id) return store.delete(key);
  throw new NotFoundError(`there is no key ${JSON.stringify(id)}; \`longhaul gateway key list\` lists them`);
}

/** Keys as a gateway knows them: read again when they are older than two seconds, so that a wrong key costs S3 nothing. */
export class ApiKeys {
  private known = new Map<string, ApiKey>();
  private readAt = -Infinity;
  private reading: Promise<void> | undefined;

  constructor(private readonly store: ObjectStore) {}

  async find(secret: string): Promise<ApiKey | undefined> {
    if (performance.now() - this.readAt > FRESH_MS) {
      this.reading ??= this.read().finally(() => (this.reading = undefined));
      await this.reading;
    }
    return this.known.get(sha256(secret));
  }

  private async read(): Promise<void> {
    const begun = performance.now();
    this.known = await readKeys(this.store, this.known);
    this.readAt = begun;
  }
}

async function* hashes(store: ObjectStore): AsyncGenerator<[hash: string, key: string]> {
  for await (const key of store.list(gatewayKeys.keys())) {
    const hash = HASH.exec(key)?.[1];
    if (hash !== undefined) yield [hash, key];
  }
}

/** A key never changes, so those of `before` are not read again. */
async function readKeys(
  store: ObjectStore,
  before: ReadonlyMap<string, ApiKey>,
): Promise<Map<string, ApiKey>> {
  const found = new Map<string, ApiKey>();
  for await (const [hash, key] of hashes(store)) {
    const old = before.get(hash);
    if (old !== undefined) {
      found.set(hash, old);
      continue;
    }
    const record = await readRecord(store, key, keyRecord);
    if (record === undefined) continue;
    const { owner, created_at, limits } = record;
    found.set(hash, { id: idOf(hash), owner, created_at, limits });
  }
  return found;
}
