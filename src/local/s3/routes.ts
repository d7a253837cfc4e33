import * as buckets from './bucket-operations.js';
import { notImplemented, S3Error } from './errors.js';
import type { Operation } from './exchange.js';
import * as multipart from './multipart-operations.js';
import * as objects from './object-operations.js';

/** Which S3 operation a request is, by its method, what its path names, and its query. */
const operations = {
  ListBuckets: buckets.listBuckets,
  CreateBucket: buckets.createBucket,
  HeadBucket: buckets.headBucket,
  DeleteBucket: buckets.deleteBucket,
  GetBucketLocation: buckets.getBucketLocation,
  ListObjectsV2: buckets.listObjectsV2,
  DeleteObjects: buckets.deleteObjects,
  PutObject: objects.putObject,
  GetObject: objects.getObject,
  HeadObject: objects.headObject,
  DeleteObject: objects.deleteObject,
  CopyObject: objects.copyObject,
  CreateMultipartUpload: multipart.createMultipartUpload,
  UploadPart: multipart.uploadPart,
  CompleteMultipartUpload: multipart.completeMultipartUpload,
  AbortMultipartUpload: multipart.abortMultipartUpload,
  ListParts: multipart.listParts,
  ListMultipartUploads: multipart.listMultipartUploads,
} satisfies Record<string, Operation>;
export type OperationName = keyof typeof operations;

/** Sub-resources of S3 that this server has not. Unrecognised, `PUT /bucket?policy` would create a bucket. */
const unknown = new Set(
  (
    'accelerate acl analytics attributes cors encryption intelligent-tiering inventory legal-hold lifecycle logging metrics ' +
    'notification object-lock ownershipControls policy policyStatus publicAccessBlock renameObject replication requestPayment ' +
    'restore retention select session tagging torrent versioning versions versionId website'
  ).split(' '),
);

interface Target {
  method: string;
  bucket: string;
  key: string;
  query: Map<string, string>;
  headers: Record<string, string | undefined>;
}

function bucketOperation({ method, query }: Target): OperationName | undefined {
  switch (method) {
    case 'PUT':
      return 'CreateBucket';
    case 'HEAD':
      return 'HeadBucket';
    case 'DELETE':
      return 'DeleteBucket';
    case 'POST':
      return query.has('delete') ? 'DeleteObjects' : undefined;
    case 'GET':
      if (query.has('uploads')) return 'ListMultipartUploads';
      if (query.has('location')) return 'GetBucketLocation';
      if (query.get('list-type') === '2') return 'ListObjectsV2';
      throw notImplemented('ListObjects (version 1); use ListObjectsV2');
    default:
      return undefined;
  }
}

function objectOperation({ method, query, headers }: Target): OperationName | undefined {
  const inUpload = query.has('uploadId');
  switch (method) {
    case 'GET':
      if (query.has('partNumber')) throw notImplemented('GetObject by partNumber');
      return inUpload ? 'ListParts' : 'GetObject';
    case 'HEAD':
      return 'HeadObject';
    case 'DELETE':
      return inUpload ? 'AbortMultipartUpload' : 'DeleteObject';
    case 'POST':
      if (query.has('uploads')) return 'CreateMultipartUpload';
      return inUpload ? 'CompleteMultipartUpload' : undefined;
    case 'PUT':
      if (inUpload && headers['x-amz-copy-source'] !== undefined) throw notImplemented('UploadPartCopy');
      if (inUpload) return 'UploadPart';
      return headers['x-amz-copy-source'] === undefined ? 'PutObject' : 'CopyObject';
    default:
      return undefined;
  }
}

export function route(target: Target): { name: OperationName; run: Operation } {
  for (const name of target.query.keys())
    if (unknown.has(name)) throw notImplemented(`the sub-resource ?${name}`);
  let name: OperationName | undefined;
  if (target.bucket === '') name = target.method === 'GET' ? 'ListBuckets' : undefined;
  else if (target.key === '') name = bucketOperation(target);
  else {
    const bytes = Buffer.byteLength(target.key);
    if (bytes > 1024)
      throw new S3Error('KeyTooLongError', 'Your key is too long', {
        Size: String(bytes),
        MaxSizeAllowed: '1024',
      });
    name = objectOperation(target);
  }
  if (!name)
    throw new S3Error(
      'MethodNotAllowed',
      `The specified method is not allowed against this resource: ${target.method}`,
    );
  return { name, run: operations[name] };
}
