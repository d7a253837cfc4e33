import { setMaxListeners } from 'node:events';
import {
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  type ListObjectsV2CommandInput,
  type ListObjectsV2CommandOutput,
  DeleteObjectCommand,
} from '@aws-sdk/client-s3';
import type { Config } from './config.js';
import { ConfigError, InfrastructureError, LonghaulError, NotFoundError, StoreError } from './errors.js';
import { measureS3 } from './measure-s3.js';
import { upload } from './upload.js';

/** What a conditional write found. */
export type CreateResult = 'created' | 'exists';

/**
 * The objects of longhaul: one bucket below one prefix. Every call has a timeout and bounded
 * retries (SDK standard mode) and takes an AbortSignal.
 */
export class ObjectStore {
  private readonly client: S3Client;
  private readonly bucket: string;
  private readonly prefix: string;

  constructor(config: Config) {
    this.bucket = config.s3Bucket;
    this.prefix = config.s3Prefix === '' ? '' : config.s3Prefix + '/';
    this.client = new S3Client({
      region: config.s3Region,
      endpoint: config.s3Endpoint,
      forcePathStyle: config.s3PathStyle,
      maxAttempts: config.s3Attempts,
      credentials:
        config.s3AccessKeyId !== undefined && config.s3SecretAccessKey !== undefined
          ? { accessKeyId: config.s3AccessKeyId, secretAccessKey: config.s3SecretAccessKey }
          : undefined,
      requestHandler: { connectionTimeout: 5_000, requestTimeout: config.s3TimeoutMs },
    });
    measureS3(this.client);
  }

  /** `s3://bucket/prefix/key`, for people. */
  url(key: string): string {
    return `s3://${this.bucket}/${this.prefix}${key}`;
  }

  /**
   * Creates an object that must not exist yet. `exists` also covers a lost reply to an earlier
   * attempt of our own: the caller compares contents where that matters.
   */
  async create(key: string, body: Uint8Array | string, signal?: AbortSignal): Promise<CreateResult> {
    try {
      await this.client.send(
        new PutObjectCommand({ Bucket: this.bucket, Key: this.prefix + key, Body: body, IfNoneMatch: '*' }),
        { abortSignal: signal },
      );
      return 'created';
    } catch (error) {
      const status = httpStatus(error);
      if (status === 412 || status === 409) return 'exists';
      throw this.translate(error, 'write', key);
    }
  }

  /**
   * Like `create`, and an object that is there already must hold the same bytes.
   * @throws StoreError `CONFLICT` when it holds others.
   */
  async createOrVerify(key: string, body: Uint8Array | string, signal?: AbortSignal): Promise<CreateResult> {
    const result = await this.create(key, body, signal);
    if (result === 'exists') {
      const found = await this.get(key, signal);
      if (!found.equals(Buffer.from(body))) {
        throw new StoreError('CONFLICT', `${this.url(key)} exists with other content`);
      }
    }
    return result;
  }

  /**
   * Like `create`, in parts above 8 MB; then an object that is there already is not sent at all. The
   * object appears whole, with its last part.
   */
  async createStream(
    key: string,
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<CreateResult> {
    const beforeParts = async () => {
      if ((await this.modifiedAt(key, signal)) !== undefined) throw new ExistsAlready();
    };
    try {
      const target = { Bucket: this.bucket, Key: this.prefix + key, IfNoneMatch: '*' as const };
      await upload(this.client, target, chunks, { signal, beforeParts });
      return 'created';
    } catch (error) {
      if (error instanceof ExistsAlready || httpStatus(error) === 412) return 'exists';
      // 409: another writer is at it, who may yet fail. 404: the upload is gone, as after its completion's lost reply.
      const unclear = [404, 409].includes(httpStatus(error) ?? 0);
      if (unclear && (await this.modifiedAt(key, signal)) !== undefined) return 'exists';
      throw this.translate(error, 'write', key);
    }
  }

  /** Writes or replaces; multipart above 8 MB. Returns size and sha256 of what was written. */
  async put(
    key: string,
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<{ bytes: number; sha256: string }> {
    try {
      return await upload(this.client, { Bucket: this.bucket, Key: this.prefix + key }, chunks, { signal });
    } catch (error) {
      throw this.translate(error, 'write', key);
    }
  }

  /** An object with the tag of this version of it, for `replace`. @throws NotFoundError */
  async getTagged(key: string, signal?: AbortSignal): Promise<{ bytes: Buffer; etag: string }> {
    return this.read(key, undefined, signal);
  }

  /** Writes over the version with this tag; `changed`: there is another one by now, or none. */
  async replace(
    key: string,
    body: Uint8Array,
    etag: string,
    signal?: AbortSignal,
  ): Promise<'replaced' | 'changed'> {
    try {
      await this.client.send(
        new PutObjectCommand({ Bucket: this.bucket, Key: this.prefix + key, Body: body, IfMatch: etag }),
        { abortSignal: signal },
      );
      return 'replaced';
    } catch (error) {
      if ([404, 409, 412].includes(httpStatus(error) ?? 0)) return 'changed';
      throw this.translate(error, 'write', key);
    }
  }

  /** @throws NotFoundError */
  async get(key: string, signal?: AbortSignal): Promise<Buffer> {
    return (await this.read(key, undefined, signal)).bytes;
  }

  /** Bytes [start, end) of an object. An empty range is an empty buffer and no request. */
  async getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Buffer> {
    if (start === end) return Buffer.alloc(0);
    const { bytes: body } = await this.read(key, `bytes=${start}-${end - 1}`, signal);
    if (body.byteLength !== end - start) {
      throw new StoreError(
        'TRUNCATED',
        `${this.url(key)} gave ${body.byteLength} bytes for the range ${start}..${end}`,
      );
    }
    return body;
  }

  /** The first bytes of an object that is not empty: `max` of them, or all where it is shorter. */
  async getStart(key: string, max: number, signal?: AbortSignal): Promise<Buffer> {
    return (await this.read(key, `bytes=0-${max - 1}`, signal)).bytes;
  }

  /** When the object was last written; undefined when it does not exist. */
  async modifiedAt(key: string, signal?: AbortSignal): Promise<Date | undefined> {
    try {
      const reply = await this.client.send(
        new HeadObjectCommand({ Bucket: this.bucket, Key: this.prefix + key }),
        { abortSignal: signal },
      );
      return reply.LastModified ?? new Date(0);
    } catch (error) {
      if (httpStatus(error) === 404) return undefined;
      throw this.translate(error, 'read', key);
    }
  }

  async exists(key: string, signal?: AbortSignal): Promise<boolean> {
    for await (const found of this.list(key, signal)) return found === key;
    return false;
  }

  /** Keys below a prefix, in byte order, without the configured prefix; those behind `after` alone. */
  async *list(prefix: string, signal?: AbortSignal, after?: string): AsyncGenerator<string> {
    const StartAfter = after === undefined ? undefined : this.prefix + after;
    for await (const { Contents } of this.pages(prefix, { StartAfter }, signal)) {
      for (const { Key } of Contents ?? []) if (Key !== undefined) yield Key.slice(this.prefix.length);
    }
  }

  /** The names directly below a prefix that end in `/`: `batches/` -> ids. */
  async *listFolders(prefix: string, signal?: AbortSignal): AsyncGenerator<string> {
    for await (const { CommonPrefixes } of this.pages(prefix, { Delimiter: '/' }, signal)) {
      for (const { Prefix } of CommonPrefixes ?? []) {
        if (Prefix !== undefined) yield Prefix.slice((this.prefix + prefix).length, -1);
      }
    }
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.client.send(new DeleteObjectCommand({ Bucket: this.bucket, Key: this.prefix + key }), {
        abortSignal: signal,
      });
    } catch (error) {
      throw this.translate(error, 'delete', key);
    }
  }

  /** An object of any bucket, for documents named by `s3://` URLs; streamed. */
  async openUrl(url: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const match = /^s3:\/\/([^/]+)\/(.+)$/.exec(url);
    if (match === null) throw new ConfigError(`${url} is not of the form s3://bucket/key`);
    try {
      const reply = await this.client.send(new GetObjectCommand({ Bucket: match[1], Key: match[2] }), {
        abortSignal: signal,
      });
      return reply.Body as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw this.translate(error, 'read', url);
    }
  }

  /** What lies below `s3://bucket/prefix` in any bucket, in byte order; names that end in `/` are no documents. */
  async *listUrl(
    url: string,
    signal?: AbortSignal,
  ): AsyncGenerator<{ url: string; etag: string; bytes: number; modifiedAt: Date }> {
    const { Bucket, Key: Prefix } = placeOf(url);
    let ContinuationToken: string | undefined;
    do {
      const command = new ListObjectsV2Command({ Bucket, Prefix, ContinuationToken });
      const page = await this.client.send(command, { abortSignal: signal }).catch((error: unknown) => {
        if (httpStatus(error) === 404) {
          throw new NotFoundError(`the bucket of ${url} does not exist; create it or correct the URL`);
        }
        throw this.translate(error, 'list', url);
      });
      for (const { Key, ETag = '', Size = 0, LastModified = new Date(0) } of page.Contents ?? []) {
        if (Key === undefined || Key.endsWith('/')) continue;
        yield { url: `s3://${Bucket}/${Key}`, etag: ETag, bytes: Size, modifiedAt: LastModified };
      }
      ContinuationToken = page.NextContinuationToken;
    } while (ContinuationToken !== undefined);
  }

  /** Writes or replaces an object of any bucket; multipart above 8 MB. */
  async putUrl(url: string, chunks: Iterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    try {
      await upload(this.client, placeOf(url), chunks, { signal });
    } catch (error) {
      throw this.translate(error, 'write', url);
    }
  }

  /**
   * Refuses a store on which an outcome could be written twice: two conditional PUTs of one key,
   * then ten at the same time, must have exactly one winner.
   * @throws ConfigError naming endpoint and bucket.
   */
  async probe(signal?: AbortSignal): Promise<void> {
    try {
      await this.client.send(new HeadBucketCommand({ Bucket: this.bucket }), { abortSignal: signal });
    } catch (error) {
      throw this.translate(error, 'reach', '');
    }
    // Ten requests listen to it at once; Node.js would take that for a leak of the caller's.
    const shared = signal === undefined ? undefined : AbortSignal.any([signal]);
    if (shared !== undefined) setMaxListeners(0, shared);
    const key = `probe/${Date.now()}-${process.pid}-${Math.random().toString(36).slice(2)}`;
    try {
      const racers = await Promise.all(
        Array.from({ length: 10 }, (_, i) => this.create(key, `racer ${i}`, shared)),
      );
      const after = await this.create(key, 'late', signal);
      const winners = racers.filter((r) => r === 'created').length;
      if (winners !== 1 || after !== 'exists') {
        throw new ConfigError(
          `the store of ${this.url('')} does not honour If-None-Match (${winners} of 10 writers won); answers could be doubled. Use a store that supports conditional writes`,
        );
      }
    } finally {
      await this.delete(key).catch(() => undefined);
    }
  }

  close(): void {
    this.client.destroy();
  }

  private async *pages(
    prefix: string,
    how: Pick<ListObjectsV2CommandInput, 'Delimiter' | 'StartAfter'>,
    signal?: AbortSignal,
  ): AsyncGenerator<ListObjectsV2CommandOutput> {
    const query = { Bucket: this.bucket, Prefix: this.prefix + prefix, ...how };
    let ContinuationToken: string | undefined;
    do {
      const command = new ListObjectsV2Command({ ...query, ContinuationToken });
      let page: ListObjectsV2CommandOutput;
      try {
        page = await this.client.send(command, { abortSignal: signal });
      } catch (error) {
        throw this.translate(error, 'list', prefix);
      }
      yield page;
      ContinuationToken = page.NextContinuationToken;
    } while (ContinuationToken !== undefined);
  }

  private async read(
    key: string,
    Range: string | undefined,
    signal?: AbortSignal,
  ): Promise<{ bytes: Buffer; etag: string }> {
    try {
      const reply = await this.client.send(
        new GetObjectCommand({ Bucket: this.bucket, Key: this.prefix + key, Range }),
        { abortSignal: signal },
      );
      if (reply.Body === undefined)
        throw new StoreError('EMPTY_REPLY', `${this.url(key)} came without a body`);
      return { bytes: Buffer.from(await reply.Body.transformToByteArray()), etag: reply.ETag ?? '' };
    } catch (error) {
      throw this.translate(error, 'read', key);
    }
  }

  private translate(error: unknown, verb: string, key: string): Error {
    if (error instanceof Error && error.name === 'AbortError') return error;
    // Of this store, or of what was to be written.
    if (error instanceof LonghaulError) return error;
    const status = httpStatus(error);
    const where = this.url(key);
    if (status === 404 && verb === 'read') return new NotFoundError(`${where} does not exist`);
    if (status === 416) return new StoreError('TRUNCATED', `${where} is shorter than the range asked for`);
    if (status === 404)
      return new ConfigError(`the bucket ${this.bucket} does not exist; create it or correct s3Bucket`, {
        cause: error,
      });
    if (status === 401 || status === 403) {
      return new ConfigError(
        `S3 refused to ${verb} ${where} (${(error as Error).name}); check credentials and policy`,
        { cause: error },
      );
    }
    const detail = error instanceof Error ? error.message : String(error);
    return new InfrastructureError('S3', `S3 could not ${verb} ${where}: ${detail}`, { cause: error });
  }
}

/** Found before the first part of an upload was sent. */
class ExistsAlready extends Error {}

function placeOf(url: string): { Bucket: string; Key: string } {
  const match = /^s3:\/\/([^/]+)\/(.*)$/s.exec(url);
  if (match === null) throw new ConfigError(`${url} is not of the form s3://bucket/key`);
  return { Bucket: match[1] ?? '', Key: match[2] ?? '' };
}

function httpStatus(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}
