/** What a process may read documents from. A service reads on behalf of others, so it is told what it may. */
import { posix } from 'node:path';
import type { Config } from '../platform/config.js';

export interface SourcePolicy {
  /** Files must lie below it. Undefined: anywhere. Null: no files at all. */
  readonly documentRoot: string | undefined | null;
  /** Addresses of this machine and its networks may be fetched from. */
  readonly allowPrivateAddresses: boolean;
  /** `host` or `host:port` that may be fetched from even so. */
  readonly privateHosts: readonly string[];
  readonly allowHttp: boolean;
  /** `bucket` or `bucket/prefix` of `s3://` documents. Undefined: whatever the credentials can read. */
  readonly buckets: readonly string[] | undefined;
  /** Bytes of one document, after decompression. */
  readonly maxBytes: number;
  /** Milliseconds: to a connection (with TLS); from there to the headers, and between bytes; in all. */
  readonly connectMs: number;
  readonly idleMs: number;
  readonly totalMs: number;
  /** Before the second try of a fetch; doubles. */
  readonly backOffMs: number;
  /** Certificates to trust beside Node's own (PEM). */
  readonly ca?: string;
}

export function sourcePolicy(config: Config): SourcePolicy {
  return {
    documentRoot: config.documentRoot ?? (config.service ? null : undefined),
    allowPrivateAddresses: !config.service,
    privateHosts: config.documentHosts,
    allowHttp: config.documentHttp,
    buckets: config.service ? config.documentBuckets : undefined,
    maxBytes: config.documentMaxBytes,
    connectMs: config.timings.documentConnect,
    idleMs: config.timings.documentIdle,
    totalMs: config.documentTimeoutMs,
    backOffMs: config.timings.faultBackoffFirst,
  };
}

/** Whether `s3://bucket/key` is in one of the buckets or below one of the prefixes. */
export function allowsObject({ buckets }: SourcePolicy, bucket: string, key: string): boolean {
  if (buckets === undefined) return true;
  // Some stores resolve `..`, which would lead out of a prefix.
  if (posix.join('/', key) !== `/${key}`) return false;
  return buckets.some((entry) => {
    const [name, ...prefix] = entry.replace(/\/+$/, '').split('/');
    return name === bucket && (prefix.length === 0 || key.startsWith(`${prefix.join('/')}/`));
  });
}
