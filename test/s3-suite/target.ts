/**
 * What the suite runs against: the endpoint named by S3_SUITE_ENDPOINT, or our own server. Each file works in a bucket
 * of its own, or below a random prefix of the bucket that it is given, and removes what it made.
 */
import { randomBytes } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, type TestContext } from 'vitest';
import { startS3, type S3Service } from '../support/services.js';

export interface Endpoint {
  endpoint: string;
  region: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
}

function given(): (Endpoint & { bucket: string | undefined }) | undefined {
  const { env } = process;
  const endpoint = env['S3_SUITE_ENDPOINT'];
  if (endpoint === undefined || endpoint === '') return undefined;
  return {
    endpoint,
    region: env['S3_SUITE_REGION'] || 'us-east-1',
    bucket: env['S3_SUITE_BUCKET'] || undefined,
    credentials: {
      accessKeyId: env['S3_SUITE_ACCESS_KEY'] || 'test',
      secretAccessKey: env['S3_SUITE_SECRET_KEY'] || 'test',
    },
  };
}

export class Target {
  private constructor(
    readonly at: Endpoint,
    readonly bucket: string,
    /** Before every key, so that a bucket can be shared. */
    readonly prefix: string,
    readonly ownsBucket: boolean,
    /** Undefined: somebody else's server, which is not ours to restart. */
    private readonly own: S3Service | undefined,
    readonly client: S3Client,
  ) {}

  static async open(): Promise<Target> {
    const other = given();
    const own = other === undefined ? await startS3() : undefined;
    const at: Endpoint | undefined = other ?? own;
    if (at === undefined) throw new Error('there is no server');
    const client = clientOf(at);
    const named = other === undefined ? own?.bucket : other.bucket;
    const bucket = named ?? `longhaul-suite-${randomBytes(6).toString('hex')}`;
    try {
      if (named === undefined) await client.send(new CreateBucketCommand({ Bucket: bucket }));
    } catch (cause) {
      client.destroy();
      throw new Error(`${at.endpoint} did not create the bucket ${bucket}; name one with BUCKET=`, { cause });
    }
    const prefix = `suite-${randomBytes(4).toString('hex')}/`;
    return new Target(at, bucket, prefix, named === undefined, own, client);
  }

  key(name: string): string {
    return this.prefix + name;
  }

  connect(change: S3ClientConfig = {}): S3Client {
    return clientOf(this.at, change);
  }

  /** Ends the check as not run where the server is not ours. `-9`: as a crash would. */
  async restart(context: TestContext, how: 'stop' | 'kill -9' = 'stop'): Promise<void> {
    if (this.own === undefined) return context.skip('needs a restart of the server');
    if (how === 'kill -9') await this.own.kill9();
    await this.own.restart();
  }

  /** Ends the check as not applicable where only one bucket may be used. */
  async otherBucket(context: TestContext): Promise<string> {
    if (!this.ownsBucket && this.own === undefined) context.skip('not applicable: one bucket was named');
    const name = `longhaul-suite-${randomBytes(6).toString('hex')}`;
    await this.client.send(new CreateBucketCommand({ Bucket: name }));
    return name;
  }

  put(name: string, Body: string | Uint8Array | Readable, more: object = {}) {
    return this.client.send(
      new PutObjectCommand({ Bucket: this.bucket, Key: this.key(name), Body, ...more }),
    );
  }

  get(name: string, more: object = {}) {
    return this.client.send(new GetObjectCommand({ Bucket: this.bucket, Key: this.key(name), ...more }));
  }

  async read(name: string, more: object = {}): Promise<Buffer> {
    return Buffer.from((await (await this.get(name, more)).Body?.transformToByteArray()) ?? []);
  }

  head(name: string, more: object = {}) {
    return this.client.send(new HeadObjectCommand({ Bucket: this.bucket, Key: this.key(name), ...more }));
  }

  delete(name: string, more: object = {}) {
    return this.client.send(new DeleteObjectCommand({ Bucket: this.bucket, Key: this.key(name), ...more }));
  }

  async close(): Promise<void> {
    try {
      if (this.own === undefined) await empty(this.client, this.bucket, this.prefix);
      if (this.own === undefined && this.ownsBucket) {
        await this.client.send(new DeleteBucketCommand({ Bucket: this.bucket }));
      }
    } finally {
      this.client.destroy();
      await this.own?.stop();
    }
  }
}

function clientOf({ endpoint, region, credentials }: Endpoint, change: S3ClientConfig = {}): S3Client {
  return new S3Client({ endpoint, region, forcePathStyle: true, credentials, ...change });
}

/** As far as the server lets us: what it does not know is no reason to fail a check. */
async function empty(client: S3Client, Bucket: string, Prefix: string): Promise<void> {
  const uploads = await client
    .send(new ListMultipartUploadsCommand({ Bucket, Prefix }))
    .catch(() => undefined);
  for (const { Key, UploadId } of uploads?.Uploads ?? []) {
    await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch(() => undefined);
  }
  for (;;) {
    const page = await client.send(new ListObjectsV2Command({ Bucket, Prefix }));
    const keys = (page.Contents ?? []).map(({ Key }) => Key).values();
    const worker = async (): Promise<void> => {
      for (const Key of keys) await client.send(new DeleteObjectCommand({ Bucket, Key }));
    };
    await Promise.all(Array.from({ length: 16 }, worker));
    if (page.IsTruncated !== true) return;
  }
}

/** The file's target; call once at its top. */
export function useTarget(): () => Target {
  let target: Target | undefined;
  beforeAll(async () => {
    target = await Target.open();
  });
  afterAll(async () => {
    await target?.close();
  });
  return () => {
    if (target === undefined) throw new Error('the suite has no server');
    return target;
  };
}

/** The error code and status with which S3 refused. */
export async function refusal(
  promise: Promise<unknown>,
): Promise<{ code: string; status: number | undefined }> {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error, 'the request was refused').toBeInstanceOf(S3ServiceException);
  const refused = error as S3ServiceException;
  return { code: refused.name, status: refused.$metadata.httpStatusCode };
}
