import { checksumHeader } from './checksums.js';
import { notImplemented, preconditionFailed, S3Error } from './errors.js';
import type { Exchange } from './exchange.js';
import type { Conditions, ObjectRecord } from './store.js';

/** Between HTTP headers and what is kept about an object. */
const kept = ['cache-control', 'content-disposition', 'content-language', 'expires'];
const maxUserMetadata = 2048;

/** Asking for something that would silently not happen is an error, not a success. */
const refused = [
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-customer-algorithm',
  'x-amz-tagging',
  'x-amz-object-lock-mode',
  'x-amz-object-lock-legal-hold',
  'x-amz-website-redirect-location',
  'x-amz-write-offset-bytes',
];

/** What a client said about the object it writes. */
export function objectHeadersOf(headers: Exchange['headers']): Record<string, string> {
  for (const name of refused) if (headers[name] !== undefined) throw notImplemented(name);
  const out: Record<string, string> = { 'content-type': headers['content-type'] ?? 'binary/octet-stream' };
  for (const name of kept) {
    const value = headers[name];
    if (value !== undefined) out[name] = value;
  }
  // aws-chunked is framing of the transfer; anything beside it belongs to the object.
  const encoding = (headers['content-encoding'] ?? '')
    .split(',')
    .map((e) => e.trim())
    .filter((e) => e !== '' && e !== 'aws-chunked')
    .join(',');
  if (encoding !== '') out['content-encoding'] = encoding;
  let size = 0;
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith('x-amz-meta-') || value === undefined) continue;
    size += name.length - 'x-amz-meta-'.length + Buffer.byteLength(value);
    out[name] = value;
  }
  if (size > maxUserMetadata)
    throw new S3Error(
      'MetadataTooLarge',
      `Your metadata headers have ${size} bytes; ${maxUserMetadata} are allowed.`,
    );
  return out;
}

export const quoted = (etag: string): string => `"${etag}"`;
export const unquoted = (etag: string): string =>
  etag
    .trim()
    .replace(/^W\//, '')
    .replace(/^"(.*)"$/, '$1');

export function checksumHeadersOf({ checksum }: Pick<ObjectRecord, 'checksum'>): Record<string, string> {
  if (!checksum) return {};
  return { [checksumHeader(checksum.algorithm)]: checksum.value, 'x-amz-checksum-type': checksum.type };
}

export function writeConditionsOf({ headers, faults }: Exchange): Conditions {
  if (faults.ignoreConditions) return {};
  const ifNoneMatch = headers['if-none-match'];
  const ifMatch = headers['if-match'];
  if (ifNoneMatch !== undefined && ifNoneMatch.trim() !== '*')
    throw notImplemented(`If-None-Match: ${ifNoneMatch} on a write (only * is known)`);
  return {
    ifNoneMatch: ifNoneMatch !== undefined,
    ifMatch: ifMatch === undefined ? undefined : unquoted(ifMatch),
  };
}

const anyOf = (header: string, etag: string): boolean =>
  header.split(',').some((e) => e.trim() === '*' || unquoted(e) === etag);

/** HTTP dates have whole seconds. */
const seconds = (ms: number): number => Math.floor(ms / 1000);

/** RFC 9110, 13.2.2: the match conditions win over the dates. Throws 412 or 304. */
export function checkReadConditions(record: ObjectRecord, headers: Exchange['headers'], prefix = ''): void {
  const get = (name: string): string | undefined => headers[prefix + name];
  const ifMatch = get('if-match');
  const unmodified = Date.parse(get('if-unmodified-since') ?? '');
  if (ifMatch !== undefined) {
    if (!anyOf(ifMatch, record.etag)) throw preconditionFailed('If-Match');
  } else if (seconds(record.modified) > seconds(unmodified)) throw preconditionFailed('If-Unmodified-Since');
  const ifNoneMatch = get('if-none-match');
  const since = Date.parse(get('if-modified-since') ?? '');
  const unchanged =
    ifNoneMatch !== undefined ? anyOf(ifNoneMatch, record.etag) : seconds(record.modified) <= seconds(since);
  if (!unchanged) return;
  if (prefix !== '') throw preconditionFailed('If-None-Match');
  throw new S3Error('NotModified', 'Not Modified', { ETag: record.etag });
}

/** The bytes asked for, `to` exclusive; undefined: all of them. A malformed or multiple range counts as none, as in S3. */
export function rangeOf(header: string | undefined, size: number): { from: number; to: number } | undefined {
  const m = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '');
  if (!m || (m[1] === '' && m[2] === '')) return undefined;
  const from = m[1] === '' ? Math.max(0, size - Number(m[2])) : Number(m[1]);
  const to = m[1] === '' || m[2] === '' ? size : Math.min(size, Number(m[2]) + 1);
  if (m[1] !== '' && m[2] !== '' && Number(m[2]) < from) return undefined;
  if (from >= size)
    throw new S3Error('InvalidRange', 'The requested range is not satisfiable', {
      RangeRequested: header ?? '',
      ActualObjectSize: String(size),
    });
  return { from, to };
}
