import { z } from 'zod';
import { S3Error } from './errors.js';
import type { OperationName } from './routes.js';

/**
 * What a key may do, in the form of an AWS identity policy: only `Allow`, actions of S3 by name, resources with `*` and
 * `?`. What a policy here may not say (conditions, denials) is refused when it is read, not passed over.
 */
const oneOrMore = z.union([z.string().transform((one) => [one]), z.array(z.string()).min(1)]);
export const policySchema = z.strictObject({
  Version: z.literal('2012-10-17'),
  Statement: z.array(
    z.strictObject({
      Sid: z.string().optional(),
      Effect: z.literal('Allow'),
      Action: oneOrMore,
      Resource: oneOrMore,
    }),
  ),
});
export type Policy = z.infer<typeof policySchema>;

/** The action that S3 asks for, and whether it is about the bucket or the object. */
const actions: Record<OperationName, [action: string, about: 'all' | 'bucket' | 'object']> = {
  ListBuckets: ['s3:ListAllMyBuckets', 'all'],
  CreateBucket: ['s3:CreateBucket', 'bucket'],
  HeadBucket: ['s3:ListBucket', 'bucket'],
  DeleteBucket: ['s3:DeleteBucket', 'bucket'],
  GetBucketLocation: ['s3:GetBucketLocation', 'bucket'],
  ListObjectsV2: ['s3:ListBucket', 'bucket'],
  // Its keys stand in the body: only who may delete all of them may use it.
  DeleteObjects: ['s3:DeleteObject', 'object'],
  PutObject: ['s3:PutObject', 'object'],
  GetObject: ['s3:GetObject', 'object'],
  HeadObject: ['s3:GetObject', 'object'],
  DeleteObject: ['s3:DeleteObject', 'object'],
  CopyObject: ['s3:PutObject', 'object'],
  CreateMultipartUpload: ['s3:PutObject', 'object'],
  UploadPart: ['s3:PutObject', 'object'],
  CompleteMultipartUpload: ['s3:PutObject', 'object'],
  AbortMultipartUpload: ['s3:AbortMultipartUpload', 'object'],
  ListParts: ['s3:ListMultipartUploadParts', 'object'],
  ListMultipartUploads: ['s3:ListBucketMultipartUploads', 'bucket'],
};

function matches(pattern: string, text: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.');
  return new RegExp(`^${source}$`, 's').test(text);
}

export function allows(policy: Policy, action: string, resource: string): boolean {
  return policy.Statement.some(
    ({ Action, Resource }) =>
      Action.some((pattern) => matches(pattern, action)) &&
      Resource.some((pattern) => matches(pattern, resource)),
  );
}

interface Wanted {
  name: OperationName;
  bucket: string;
  key: string;
  /** `x-amz-copy-source`, decoded: another object that is read. */
  source?: string;
}

const resource = (name: string): string => `arn:aws:s3:::${name}`;

/** @throws S3Error AccessDenied when the policy does not allow the operation. */
export function checkAccess(policy: Policy, { name, bucket, key, source }: Wanted): void {
  const [action, about] = actions[name];
  const object = name === 'DeleteObjects' ? '*' : key;
  const target = about === 'all' ? '*' : about === 'bucket' ? bucket : `${bucket}/${object}`;
  const copied = source?.replace(/^\//, '');
  const allowed =
    allows(policy, action, resource(target)) &&
    (copied === undefined || allows(policy, 's3:GetObject', resource(copied)));
  if (!allowed)
    throw new S3Error('AccessDenied', `Access Denied: the key may not do ${action} on ${resource(target)}.`);
}

/** As S3 does it: who may not list a bucket does not learn from a 404 what it lacks. */
export function hideMissing(error: unknown, policy: Policy, bucket: string): unknown {
  if (!(error instanceof S3Error) || error.s3Code !== 'NoSuchKey') return error;
  return allows(policy, 's3:ListBucket', resource(bucket))
    ? error
    : new S3Error('AccessDenied', 'Access Denied');
}
