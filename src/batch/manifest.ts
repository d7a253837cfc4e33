import { z } from 'zod';
import {
  manifestHeader,
  manifestRequest,
  type Manifest,
  type ManifestHeader,
  type ManifestRequest,
  type RequestKey,
} from '../contracts/manifest.js';
import { LonghaulError, NotFoundError } from '../platform/errors.js';
import { objectKeys } from '../platform/keys.js';
import type { ObjectStore } from '../platform/object-store.js';
import { canonicalJson } from './canonical.js';

/** Which requests a batch has and which work item answers each: enough for Redis, without their questions. */
export interface BatchIndex {
  header: ManifestHeader;
  requests: readonly RequestKey[];
  /** The requests of each work item. */
  items: readonly (readonly RequestKey[])[];
}

/** A manifest with its requests also grouped by work item. */
export interface IndexedManifest extends Manifest {
  items: ManifestRequest[][];
}

/** Ids become parts of Redis keys, job ids (no `:`) and object keys (no `/`). */
const batchIdPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/** @throws NotFoundError for an id that no batch can have. */
export function checkBatchId(id: string): string {
  if (!batchIdPattern.test(id)) throw notFound(id);
  return id;
}

export function notFound(id: string): NotFoundError {
  return new NotFoundError(`there is no batch ${JSON.stringify(id)}; \`longhaul status\` lists the batches`);
}

/**
 * Checks that ordinals run 0..n-1, custom_ids are unique and the totals are right; groups by item.
 * @throws LonghaulError `MANIFEST` naming what contradicts what.
 */
export function indexManifest(manifest: Manifest): IndexedManifest;
export function indexManifest(manifest: Omit<BatchIndex, 'items'>): BatchIndex;
export function indexManifest(manifest: Omit<BatchIndex, 'items'>): BatchIndex {
  const { header, requests } = manifest;
  const id = header.batch_id;
  const refuse = (what: string) => new LonghaulError('MANIFEST', `the manifest of batch ${id} ${what}`);
  if (!batchIdPattern.test(id)) throw refuse('has an id that is not 1 to 128 of A-Z a-z 0-9 _ . -');
  if (requests.length === 0) throw refuse('has no requests');
  if (requests.length !== header.totals.requests) {
    throw refuse(`has ${requests.length} requests, its totals say ${header.totals.requests}`);
  }
  const items: RequestKey[][] = Array.from({ length: header.totals.items }, () => []);
  const seen = new Set<string>();
  requests.forEach((request, position) => {
    if (request.ordinal !== position) throw refuse(`has ordinal ${request.ordinal} on place ${position}`);
    if (seen.has(request.custom_id)) throw refuse(`has custom_id ${request.custom_id} twice`);
    seen.add(request.custom_id);
    const item = items[request.item];
    if (item === undefined) throw refuse(`refers to work item ${request.item} of ${items.length}`);
    item.push(request);
  });
  const empty = items.findIndex((item) => item.length === 0);
  if (empty >= 0) throw refuse(`has no request for work item ${empty}`);
  return { header, requests, items };
}

export function encodeManifest(manifest: Manifest): Buffer {
  const lines = [manifest.header, ...manifest.requests].map((line) =>
    Buffer.from(canonicalJson(line) + '\n'),
  );
  return Buffer.concat(lines);
}

/** Line by line, so that no string of the whole file is ever made. */
export function decodeManifest(id: string, bytes: Buffer): IndexedManifest {
  const manifest: { header?: Manifest['header']; requests: ManifestRequest[] } = { requests: [] };
  let line = 0;
  for (let start = 0; start < bytes.length;) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline;
    line += 1;
    try {
      const value: unknown = JSON.parse(bytes.toString('utf8', start, end));
      if (manifest.header === undefined) manifest.header = manifestHeader.parse(value);
      else manifest.requests.push(manifestRequest.parse(value));
    } catch (cause) {
      const detail = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
      throw new LonghaulError('MANIFEST', `line ${line} of the manifest of batch ${id}: ${detail}`, {
        cause,
      });
    }
    start = end + 1;
  }
  if (manifest.header?.batch_id !== id) {
    throw new LonghaulError(
      'MANIFEST',
      `the manifest of batch ${id} names batch ${manifest.header?.batch_id ?? '(empty file)'}`,
    );
  }
  return indexManifest(manifest as Manifest);
}

/** @throws NotFoundError when there is no such batch. */
export async function readManifest(
  store: ObjectStore,
  id: string,
  signal?: AbortSignal,
): Promise<IndexedManifest> {
  checkBatchId(id);
  let bytes: Buffer;
  try {
    bytes = await store.get(objectKeys.manifest(id), signal);
  } catch (error) {
    throw error instanceof NotFoundError ? notFound(id) : error;
  }
  return decodeManifest(id, bytes);
}
