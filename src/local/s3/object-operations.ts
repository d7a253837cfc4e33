import { S3Error } from './errors.js';
import { xmlReply, type Exchange, type Operation, type Reply } from './exchange.js';
import {
  checkReadConditions,
  checksumHeadersOf,
  objectHeadersOf,
  quoted,
  rangeOf,
  unquoted,
  writeConditionsOf,
} from './object-headers.js';
import { receive } from './payload.js';
import { readRange } from './sealed-file.js';
import type { ObjectRecord } from './store.js';
import { xmlDocument } from './xml.js';

export const putObject: Operation = async (exchange) => {
  const { store, key } = exchange;
  const bucket = store.bucket(exchange.bucket);
  const headers = objectHeadersOf(exchange.headers);
  const conditions = writeConditionsOf(exchange);
  const staged = await store.stage();
  try {
    const received = await receive(exchange, (bytes) => staged.write(bytes));
    const record: ObjectRecord = {
      key,
      size: received.size,
      etag: received.md5.toString('hex'),
      modified: Date.now(),
      headers,
      checksum: { ...received.checksum, type: 'FULL_OBJECT' },
    };
    await bucket.commit(staged, record, conditions);
    return { status: 200, headers: { etag: quoted(record.etag), ...checksumHeadersOf(record) } };
  } finally {
    await staged.discard();
  }
};

function replyHeaders(
  record: ObjectRecord,
  { headers, query }: Exchange,
  whole: boolean,
): Record<string, string> {
  const out: Record<string, string> = {
    ...record.headers,
    etag: quoted(record.etag),
    'last-modified': new Date(record.modified).toUTCString(),
    'accept-ranges': 'bytes',
  };
  // A checksum of the whole object beside a part of it would be compared with the part.
  if (whole && headers['x-amz-checksum-mode']?.toUpperCase() === 'ENABLED')
    Object.assign(out, checksumHeadersOf(record));
  for (const name of [
    'cache-control',
    'content-disposition',
    'content-encoding',
    'content-language',
    'content-type',
    'expires',
  ]) {
    const override = query.get(`response-${name}`);
    if (override !== undefined) out[name] = override;
  }
  return out;
}

export const headObject: Operation = async (exchange) => {
  const record = exchange.store.bucket(exchange.bucket).head(exchange.key);
  checkReadConditions(record, exchange.headers);
  const range = rangeOf(exchange.headers['range'], record.size);
  const headers = replyHeaders(record, exchange, !range);
  headers['content-length'] = String(range ? range.to - range.from : record.size);
  if (range) headers['content-range'] = `bytes ${range.from}-${range.to - 1}/${record.size}`;
  return Promise.resolve({ status: range ? 206 : 200, headers });
};

export const getObject: Operation = async (exchange) => {
  const opened = await exchange.store.bucket(exchange.bucket).open(exchange.key);
  const { record, size, handle } = opened;
  try {
    checkReadConditions(record, exchange.headers);
    const range = rangeOf(exchange.headers['range'], size);
    const { from, to } = range ?? { from: 0, to: size };
    const headers = replyHeaders(record, exchange, !range);
    if (range) headers['content-range'] = `bytes ${from}-${to - 1}/${size}`;
    const reply: Reply = {
      status: range ? 206 : 200,
      headers,
      body: { length: to - from, chunks: readRange(handle, from, to), close: () => handle.close() },
    };
    return reply;
  } catch (error) {
    await handle.close();
    throw error;
  }
};

export const deleteObject: Operation = async (exchange) => {
  const ifMatch = exchange.headers['if-match'];
  await exchange.store
    .bucket(exchange.bucket)
    .delete(exchange.key, ifMatch === undefined ? {} : { ifMatch: unquoted(ifMatch) });
  return { status: 204 };
};

function copySourceOf(header: string): { bucket: string; key: string } {
  let path: string;
  try {
    path = decodeURIComponent(header.replace(/^\//, ''));
  } catch (cause) {
    throw new S3Error('InvalidArgument', `x-amz-copy-source ${header} is not URL-encoded.`, {}, { cause });
  }
  const at = path.indexOf('/');
  if (at <= 0 || at === path.length - 1 || header.includes('?versionId='))
    throw new S3Error('InvalidArgument', `x-amz-copy-source ${header} is not of the form <bucket>/<key>.`);
  return { bucket: path.slice(0, at), key: path.slice(at + 1) };
}

export const copyObject: Operation = async (exchange) => {
  const { store, headers, key } = exchange;
  const source = copySourceOf(headers['x-amz-copy-source'] ?? '');
  const target = store.bucket(exchange.bucket);
  const directive = headers['x-amz-metadata-directive'] ?? 'COPY';
  if (directive !== 'COPY' && directive !== 'REPLACE')
    throw new S3Error('InvalidArgument', `Unknown metadata directive ${directive}.`);
  if (directive === 'COPY' && source.bucket === exchange.bucket && source.key === key)
    throw new S3Error(
      'InvalidRequest',
      'This copy request is illegal: it copies an object to itself without changing anything.',
    );
  const conditions = writeConditionsOf(exchange);
  const from = await store.bucket(source.bucket).open(source.key);
  try {
    checkReadConditions(from.record, headers, 'x-amz-copy-source-');
    const staged = await store.stage();
    try {
      for await (const bytes of readRange(from.handle, 0, from.size)) await staged.write(bytes);
      const record: ObjectRecord = {
        ...from.record,
        key,
        modified: Date.now(),
        headers: directive === 'COPY' ? from.record.headers : objectHeadersOf(headers),
        uploadId: undefined,
      };
      await target.commit(staged, record, conditions);
      return xmlReply(
        xmlDocument('CopyObjectResult', {
          LastModified: new Date(record.modified).toISOString(),
          ETag: quoted(record.etag),
          ...(record.checksum && { [`Checksum${record.checksum.algorithm}`]: record.checksum.value }),
        }),
      );
    } finally {
      await staged.discard();
    }
  } finally {
    await from.handle.close();
  }
};
