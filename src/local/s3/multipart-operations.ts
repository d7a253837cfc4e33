import { checksumAlgorithms, checksumHeader, type ChecksumAlgorithm } from './checksums.js';
import { S3Error } from './errors.js';
import { xmlReply, type Exchange, type Operation } from './exchange.js';
import { pageSizeOf } from './bucket-operations.js';
import { compareKeys } from './key-index.js';
import * as multipart from './multipart.js';
import { checksumHeadersOf, objectHeadersOf, quoted, unquoted, writeConditionsOf } from './object-headers.js';
import { receive, receiveText } from './payload.js';
import { uriEncode } from './signature.js';
import type { ObjectRecord } from './store.js';
import { childrenOf, parseXml, textOf, xmlDocument, type XmlElement } from './xml.js';

const uploadIdOf = ({ query }: Exchange): string => query.get('uploadId') ?? '';

function algorithmOf(text: string | undefined): ChecksumAlgorithm | undefined {
  if (text === undefined) return undefined;
  const found = checksumAlgorithms.find((a) => a === text.toUpperCase());
  if (!found)
    throw new S3Error(
      'InvalidRequest',
      `Checksum algorithm ${text} is not one of ${checksumAlgorithms.join(', ')}.`,
    );
  return found;
}

export const createMultipartUpload: Operation = async (exchange) => {
  const { store, headers, key } = exchange;
  const algorithm = algorithmOf(headers['x-amz-checksum-algorithm']);
  const asked = headers['x-amz-checksum-type'];
  if (asked !== undefined && asked !== 'COMPOSITE' && asked !== 'FULL_OBJECT')
    throw new S3Error('InvalidRequest', `Checksum type ${asked} is not COMPOSITE or FULL_OBJECT.`);
  const only =
    algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : algorithm?.startsWith('SHA') ? 'COMPOSITE' : undefined;
  if (asked !== undefined && only !== undefined && asked !== only)
    throw new S3Error('InvalidRequest', `The ${asked} checksum type cannot be used with ${algorithm}.`);
  const type = algorithm && (asked ?? only ?? 'COMPOSITE');
  const upload = await multipart.createUpload(store, store.bucket(exchange.bucket), {
    key,
    headers: objectHeadersOf(headers),
    checksumAlgorithm: algorithm,
    checksumType: type,
  });
  const reply: Record<string, string> = {};
  if (algorithm && type)
    Object.assign(reply, { 'x-amz-checksum-algorithm': algorithm, 'x-amz-checksum-type': type });
  return xmlReply(
    xmlDocument('InitiateMultipartUploadResult', { Bucket: exchange.bucket, Key: key, UploadId: upload.id }),
    reply,
  );
};

export const uploadPart: Operation = async (exchange) => {
  const { store, query } = exchange;
  const number = Number(query.get('partNumber'));
  if (!Number.isInteger(number) || number < 1 || number > 10_000)
    throw new S3Error('InvalidArgument', 'Part number must be an integer between 1 and 10000, inclusive', {
      ArgumentName: 'partNumber',
    });
  const bucket = store.bucket(exchange.bucket);
  const upload = await multipart.findUpload(bucket, uploadIdOf(exchange), exchange.key);
  const staged = await store.stage();
  try {
    const received = await receive(exchange, (bytes) => staged.write(bytes));
    if (received.sent && upload.checksumAlgorithm && received.checksum.algorithm !== upload.checksumAlgorithm)
      throw new S3Error(
        'InvalidRequest',
        `Checksum Type mismatch occurred, expected checksum Type: ${upload.checksumAlgorithm}, actual checksum Type: ${received.checksum.algorithm}`,
      );
    const part = await multipart.putPart(bucket, upload.id, number, staged, received);
    const headers: Record<string, string> = { etag: quoted(part.etag) };
    if (part.checksum) headers[checksumHeader(part.checksum.algorithm)] = part.checksum.value;
    return { status: 200, headers };
  } finally {
    await staged.discard();
  }
};

function namedPart(element: XmlElement): multipart.NamedPart {
  const algorithm = checksumAlgorithms.find((a) => textOf(element, `Checksum${a}`) !== undefined);
  return {
    number: Number(textOf(element, 'PartNumber')),
    etag: unquoted(textOf(element, 'ETag') ?? ''),
    checksum: algorithm && { algorithm, value: textOf(element, `Checksum${algorithm}`) ?? '' },
  };
}

/** The object, if this very upload made it: the reply to a first completion was lost, and the client asks again. */
function alreadyCompleted(exchange: Exchange): ObjectRecord | undefined {
  const record = exchange.store.bucket(exchange.bucket).index.get(exchange.key);
  return record?.uploadId === uploadIdOf(exchange) ? record : undefined;
}

export const completeMultipartUpload: Operation = async (exchange) => {
  const { store, headers, key } = exchange;
  const bucket = store.bucket(exchange.bucket);
  // The checksum in the header is that of the object, not of this XML document: it is not checked against it.
  const expected = checksumAlgorithms.map((a) => headers[checksumHeader(a)]).find((v) => v !== undefined);
  const ownHeaders = Object.fromEntries(
    Object.entries(headers).filter(([n]) => !n.startsWith('x-amz-checksum-')),
  );
  const root = parseXml(await receiveText({ ...exchange, headers: ownHeaders }));
  const named = childrenOf(root, 'Part').map(namedPart);
  if (root.name !== 'CompleteMultipartUpload' || named.length === 0 || named.length > 10_000)
    throw new S3Error('MalformedXML', 'A <CompleteMultipartUpload> of 1 to 10000 parts is expected.');
  const record = await store.uploadLocks.run(uploadIdOf(exchange), async () => {
    const done = alreadyCompleted(exchange);
    if (done) return done;
    const upload = await multipart.findUpload(bucket, uploadIdOf(exchange), key);
    return multipart.completeUpload(store, bucket, upload, named, writeConditionsOf(exchange), expected);
  });
  return xmlReply(
    xmlDocument('CompleteMultipartUploadResult', {
      Location: `/${exchange.bucket}/${uriEncode(key, true)}`,
      Bucket: exchange.bucket,
      Key: key,
      ETag: quoted(record.etag),
      ...(record.checksum && {
        [`Checksum${record.checksum.algorithm}`]: record.checksum.value,
        ChecksumType: record.checksum.type,
      }),
    }),
    checksumHeadersOf(record),
  );
};

export const abortMultipartUpload: Operation = async (exchange) => {
  const bucket = exchange.store.bucket(exchange.bucket);
  await exchange.store.uploadLocks.run(uploadIdOf(exchange), async () => {
    const upload = await multipart.findUpload(bucket, uploadIdOf(exchange), exchange.key);
    await multipart.abortUpload(exchange.store, bucket, upload.id);
  });
  return { status: 204 };
};

export const listParts: Operation = async (exchange) => {
  const { query } = exchange;
  const bucket = exchange.store.bucket(exchange.bucket);
  const upload = await multipart.findUpload(bucket, uploadIdOf(exchange), exchange.key);
  const marker = Number(query.get('part-number-marker') ?? 0);
  const limit = pageSizeOf('max-parts', query.get('max-parts'));
  const rest = (await multipart.listParts(bucket, upload.id)).filter((p) => p.number > marker);
  const page = rest.slice(0, limit);
  return xmlReply(
    xmlDocument('ListPartsResult', {
      Bucket: exchange.bucket,
      Key: exchange.key,
      UploadId: upload.id,
      PartNumberMarker: marker,
      NextPartNumberMarker: page.at(-1)?.number,
      MaxParts: limit,
      IsTruncated: rest.length > page.length,
      StorageClass: 'STANDARD',
      ChecksumAlgorithm: upload.checksumAlgorithm,
      ChecksumType: upload.checksumType,
      Part: page.map((p) => ({
        PartNumber: p.number,
        LastModified: new Date(p.modified).toISOString(),
        ETag: quoted(p.etag),
        Size: p.size,
        ...(p.checksum && { [`Checksum${p.checksum.algorithm}`]: p.checksum.value }),
      })),
    }),
  );
};

export const listMultipartUploads: Operation = async (exchange) => {
  const { query } = exchange;
  if (query.has('delimiter'))
    throw new S3Error('NotImplemented', 'This server lists uploads without a delimiter only.');
  const prefix = query.get('prefix') ?? '';
  const keyMarker = query.get('key-marker') ?? '';
  const idMarker = query.get('upload-id-marker') ?? '';
  const limit = pageSizeOf('max-uploads', query.get('max-uploads'));
  const rest = (await multipart.listUploads(exchange.store.bucket(exchange.bucket)))
    .filter((u) => u.key.startsWith(prefix))
    .sort((a, b) => compareKeys(a.key, b.key) || compareKeys(a.id, b.id))
    .filter((u) => {
      const order = compareKeys(u.key, keyMarker);
      return order > 0 || (order === 0 && idMarker !== '' && u.id > idMarker);
    });
  const page = rest.slice(0, limit);
  const truncated = rest.length > page.length;
  return xmlReply(
    xmlDocument('ListMultipartUploadsResult', {
      Bucket: exchange.bucket,
      Prefix: prefix,
      KeyMarker: keyMarker,
      UploadIdMarker: idMarker,
      NextKeyMarker: truncated ? page.at(-1)?.key : undefined,
      NextUploadIdMarker: truncated ? page.at(-1)?.id : undefined,
      MaxUploads: limit,
      IsTruncated: truncated,
      Upload: page.map((u) => ({
        Key: u.key,
        UploadId: u.id,
        Initiated: new Date(u.started).toISOString(),
        StorageClass: 'STANDARD',
      })),
    }),
  );
};
