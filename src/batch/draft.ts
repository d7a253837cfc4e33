/** A batch to be, read from wherever it is: nothing of it needs to be in memory whole. */
import { createHash } from 'node:crypto';
import type { Manifest, ManifestHeader, ManifestRequest, RequestKey } from '../contracts/manifest.js';
import type { WorkItem } from '../contracts/work-item.js';
import { LonghaulError } from '../platform/errors.js';
import { canonicalJson } from './canonical.js';

export interface BatchDraft {
  header: ManifestHeader;
  /** By ordinal. */
  requests: readonly RequestKey[];
  /** `contentDigest` of its requests and header. */
  content: string;
  readRequest(ordinal: number): Promise<ManifestRequest>;
  readItem(index: number): Promise<WorkItem>;
}

/** What a header says about the answers; the rest of it is when, until when, how soon, under which names. */
type Asked = Pick<ManifestHeader, 'options' | 'digests' | 'retry_of' | 'then'>;

/** Hashes what is asked, so that equal content can be told without holding it: feed it each request's line in order. */
export function contentDigest({ options, digests, retry_of, then }: Asked) {
  const hash = createHash('sha256').update(canonicalJson({ options, digests, retry_of, then }) + '\n');
  return {
    update: (line: string | Uint8Array) => void hash.update(line),
    hex: () => hash.digest('hex'),
  };
}

/** As it stands in the manifest. */
export function requestLine(request: ManifestRequest): string {
  return canonicalJson(request) + '\n';
}

/** A draft of what is in memory already. */
export function draftOf({ header, requests }: Manifest, items: readonly WorkItem[]): BatchDraft {
  const digest = contentDigest(header);
  for (const request of requests) digest.update(requestLine(request));
  const at = <T>(values: readonly T[], index: number, what: string): Promise<T> => {
    const value = values[index];
    if (value !== undefined) return Promise.resolve(value);
    throw new LonghaulError('MANIFEST', `batch ${header.batch_id} has no ${what} ${index} of its own`);
  };
  return {
    header,
    requests,
    content: digest.hex(),
    readRequest: async (ordinal) => at(requests, ordinal, 'request'),
    readItem: async (index) => at(items, index, 'work item'),
  };
}
