import { S3Error } from './errors.js';
import { xmlReply, type Operation } from './exchange.js';
import { quoted, unquoted } from './object-headers.js';
import { receiveText } from './payload.js';
import { serverRegion, uriEncode } from './signature.js';
import { childrenOf, parseXml, textOf, xmlDocument } from './xml.js';

export const listBuckets: Operation = ({ store }) => {
  const buckets = [...store.buckets.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const Bucket = buckets.map((b) => ({ Name: b.name, CreationDate: new Date(b.created).toISOString() }));
  return Promise.resolve(
    xmlReply(
      xmlDocument('ListAllMyBucketsResult', {
        Owner: { ID: 'longhaul', DisplayName: 'longhaul' },
        Buckets: { Bucket },
      }),
    ),
  );
};

export const createBucket: Operation = async (exchange) => {
  // Its body may name a region; this server has one.
  if (Number(exchange.headers['content-length'] ?? 0) > 0) parseXml(await receiveText(exchange));
  await exchange.store.createBucket(exchange.bucket);
  return { status: 200, headers: { location: `/${exchange.bucket}` } };
};

export const headBucket: Operation = ({ store, bucket }) => {
  store.bucket(bucket);
  return Promise.resolve({ status: 200, headers: { 'x-amz-bucket-region': serverRegion } });
};

export const deleteBucket: Operation = async ({ store, bucket }) => {
  await store.deleteBucket(bucket);
  return { status: 204 };
};

export const getBucketLocation: Operation = ({ store, bucket }) => {
  store.bucket(bucket);
  return Promise.resolve(xmlReply(xmlDocument('LocationConstraint', {})));
};

/** The largest page a client may ask for, and the default. */
export function pageSizeOf(name: string, text: string | undefined): number {
  if (text === undefined) return 1000;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new S3Error('InvalidArgument', `${name} ${JSON.stringify(text)} is not a whole number from 0.`, {
      ArgumentName: name,
    });
  return Math.min(value, 1000);
}

interface Resume {
  key: string;
  isPrefix: boolean;
}

function resumeOf(token: string | undefined): Resume | undefined {
  if (token === undefined) return undefined;
  try {
    const parsed = JSON.parse(Buffer.from(token, 'base64url').toString()) as Resume;
    if (typeof parsed.key === 'string' && typeof parsed.isPrefix === 'boolean') return parsed;
  } catch {
    // Falls through to the error below: a token that is not ours.
  }
  throw new S3Error('InvalidArgument', 'The continuation token provided is incorrect', {
    ArgumentName: 'continuation-token',
  });
}

export const listObjectsV2: Operation = ({ store, bucket, query }) => {
  const encoding = query.get('encoding-type');
  if (encoding !== undefined && encoding !== 'url')
    throw new S3Error('InvalidArgument', `Invalid Encoding Method specified in Request: ${encoding}`);
  const encode = (text: string): string => (encoding === 'url' ? uriEncode(text, true) : text);
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const startAfter = query.get('start-after') ?? '';
  const token = query.get('continuation-token');
  const maxKeys = pageSizeOf('max-keys', query.get('max-keys'));
  const found = store.bucket(bucket).index.list({ prefix, delimiter, startAfter, maxKeys }, resumeOf(token));
  return Promise.resolve(
    xmlReply(
      xmlDocument('ListBucketResult', {
        Name: bucket,
        Prefix: encode(prefix),
        Delimiter: delimiter === '' ? undefined : encode(delimiter),
        StartAfter: startAfter === '' ? undefined : encode(startAfter),
        EncodingType: encoding,
        KeyCount: found.items.length + found.commonPrefixes.length,
        MaxKeys: maxKeys,
        IsTruncated: found.truncated,
        ContinuationToken: token,
        NextContinuationToken: found.truncated
          ? Buffer.from(JSON.stringify(found.last)).toString('base64url')
          : undefined,
        Contents: found.items.map(({ key, value }) => ({
          Key: encode(key),
          LastModified: new Date(value.modified).toISOString(),
          ETag: quoted(value.etag),
          ChecksumAlgorithm: value.checksum?.algorithm,
          ChecksumType: value.checksum?.type,
          Size: value.size,
          StorageClass: 'STANDARD',
        })),
        CommonPrefixes: found.commonPrefixes.map((p) => ({ Prefix: encode(p) })),
      }),
    ),
  );
};

export const deleteObjects: Operation = async (exchange) => {
  const bucket = exchange.store.bucket(exchange.bucket);
  const { headers } = exchange;
  const hasDigest =
    headers['content-md5'] !== undefined || Object.keys(headers).some((h) => h.startsWith('x-amz-checksum-'));
  if (!hasDigest && headers['x-amz-trailer'] === undefined)
    throw new S3Error(
      'InvalidRequest',
      'Missing required header for this request: Content-MD5 or x-amz-checksum-*',
    );
  const root = parseXml(await receiveText(exchange));
  const objects = childrenOf(root, 'Object');
  if (root.name !== 'Delete' || objects.length === 0 || objects.length > 1000)
    throw new S3Error(
      'MalformedXML',
      `A <Delete> of 1 to 1000 objects is expected, there are ${objects.length}.`,
    );
  const quiet = textOf(root, 'Quiet') === 'true';
  const Deleted: { Key: string }[] = [];
  const Failed: { Key: string; Code: string; Message: string }[] = [];
  await Promise.all(
    objects.map(async (object) => {
      const Key = textOf(object, 'Key') ?? '';
      const etag = textOf(object, 'ETag');
      try {
        await bucket.delete(Key, etag === undefined ? {} : { ifMatch: unquoted(etag) });
        Deleted.push({ Key });
      } catch (error) {
        const known = error instanceof S3Error ? error : new S3Error('InternalError', String(error));
        Failed.push({ Key, Code: known.s3Code, Message: known.message });
      }
    }),
  );
  return xmlReply(xmlDocument('DeleteResult', { Deleted: quiet ? [] : Deleted, Error: Failed }));
};
