import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChecksumAlgorithm } from './checksums.js';
import { noSuchKey, preconditionFailed, S3Error } from './errors.js';
import { KeyIndex } from './key-index.js';
import { KeyedLock } from './lock.js';
import { openSealed, readSealedRecord, StagedFile, type OpenedFile } from './sealed-file.js';
import type { Disk } from './disk.js';

/**
 * The folder behind the server:
 *   tmp/                        files being written; emptied at start
 *   buckets/<name>/objects/     one sealed file per object
 *   buckets/<name>/uploads/     multipart uploads, one folder each
 * An in-memory index per bucket is filled from the folder at start. One process owns the folder.
 */
export interface ObjectRecord {
  key: string;
  size: number;
  /** Without quotes. */
  etag: string;
  /** Milliseconds. */
  modified: number;
  /** What came as headers and goes back as headers: content-type, x-amz-meta-*, ... */
  headers: Record<string, string>;
  checksum?: StoredChecksum;
  /** The multipart upload that made it: completing it again is answered with success again. */
  uploadId?: string;
}

export interface StoredChecksum {
  algorithm: ChecksumAlgorithm;
  /** base64, with `-<parts>` when it is one of part checksums */
  value: string;
  type: 'FULL_OBJECT' | 'COMPOSITE';
}

export interface Conditions {
  ifMatch?: string;
  /** Only `*` is possible on a write. */
  ifNoneMatch?: boolean;
}

/**
 * A name that is safe on every file system whatever the key is: the digest makes it unique (also
 * where case does not count), the start of the key makes it readable.
 */
export function fileNameOf(key: string): string {
  const readable = key.replace(/[^A-Za-z0-9._-]/g, '~').slice(-60);
  return `${createHash('sha256').update(key).digest('hex').slice(0, 40)}.${readable}`;
}

/** As `longhaul batch retention` has it. */
const STALE_UPLOAD_MS = 7 * 24 * 3_600_000;

export class Bucket {
  readonly index = new KeyIndex<ObjectRecord>();
  private readonly locks = new KeyedLock();

  constructor(
    readonly name: string,
    readonly dir: string,
    readonly created: number,
    private readonly disk: Disk,
  ) {}

  get objectsDir(): string {
    return join(this.dir, 'objects');
  }

  get uploadsDir(): string {
    return join(this.dir, 'uploads');
  }

  async load(): Promise<void> {
    await mkdir(this.objectsDir, { recursive: true });
    await mkdir(this.uploadsDir, { recursive: true });
    await this.dropStaleUploads();
    const names = await readdir(this.objectsDir);
    // A few at a time: opening a hundred thousand files at once runs out of descriptors.
    const queue = names.values();
    const worker = async (): Promise<void> => {
      for (const name of queue) {
        const { record } = await readSealedRecord<ObjectRecord>(join(this.objectsDir, name));
        this.index.set(record.key, record);
      }
    };
    await Promise.all(Array.from({ length: 16 }, worker));
  }

  /** What a lifecycle rule does elsewhere: parts of an upload whose client died are not kept for ever. */
  private async dropStaleUploads(): Promise<void> {
    for (const name of await readdir(this.uploadsDir)) {
      const upload = join(this.uploadsDir, name);
      // Every part that comes changes it.
      const { mtimeMs } = await stat(upload);
      if (Date.now() - mtimeMs > STALE_UPLOAD_MS) await rm(upload, { recursive: true, force: true });
    }
  }

  /**
   * Makes a staged file the object, if the conditions hold. Check and rename happen under the key's
   * lock: of any number of writers with `If-None-Match: *`, one wins.
   */
  async commit(staged: StagedFile, record: ObjectRecord, conditions: Conditions): Promise<void> {
    // Most losers are found here, before their bytes are forced to the disk.
    this.check(record.key, conditions);
    await staged.seal(record);
    await this.locks.run(record.key, async () => {
      this.check(record.key, conditions);
      await staged.publish(join(this.objectsDir, fileNameOf(record.key)));
      this.index.set(record.key, record);
    });
  }

  private check(key: string, { ifMatch, ifNoneMatch }: Conditions): void {
    const existing = this.index.get(key);
    if (ifNoneMatch && existing) throw preconditionFailed('If-None-Match');
    if (ifMatch === undefined) return;
    if (!existing) throw noSuchKey(key);
    if (ifMatch !== '*' && ifMatch !== existing.etag) throw preconditionFailed('If-Match');
  }

  head(key: string): ObjectRecord {
    const record = this.index.get(key);
    if (!record) throw noSuchKey(key);
    return record;
  }

  async open(key: string): Promise<OpenedFile<ObjectRecord>> {
    this.head(key);
    try {
      return await openSealed<ObjectRecord>(join(this.objectsDir, fileNameOf(key)));
    } catch (error) {
      // Deleted between the two lines above.
      if (!this.index.get(key)) throw noSuchKey(key);
      throw error;
    }
  }

  /** Deleting what is not there is a success, as in S3. */
  async delete(key: string, conditions: Conditions = {}): Promise<void> {
    await this.locks.run(key, async () => {
      this.check(key, conditions);
      if (!this.index.get(key)) return;
      this.index.delete(key);
      await unlink(join(this.objectsDir, fileNameOf(key)));
      await this.disk.syncDirectory(this.objectsDir);
    });
  }
}

export class Store {
  readonly buckets = new Map<string, Bucket>();
  /** A multipart upload is completed or aborted by one request at a time. */
  readonly uploadLocks = new KeyedLock();
  private constructor(
    readonly dir: string,
    readonly disk: Disk,
  ) {}

  static async open(dir: string, disk: Disk): Promise<Store> {
    const store = new Store(dir, disk);
    await rm(store.tmpDir, { recursive: true, force: true });
    await mkdir(store.tmpDir, { recursive: true });
    await mkdir(store.bucketsDir, { recursive: true });
    for (const name of await readdir(store.bucketsDir)) {
      const path = join(store.bucketsDir, name);
      const info = await stat(path);
      if (!info.isDirectory()) continue;
      const bucket = new Bucket(name, path, info.birthtimeMs || info.ctimeMs, disk);
      await bucket.load();
      store.buckets.set(name, bucket);
    }
    return store;
  }

  get tmpDir(): string {
    return join(this.dir, 'tmp');
  }

  private get bucketsDir(): string {
    return join(this.dir, 'buckets');
  }

  async stage(): Promise<StagedFile> {
    return StagedFile.create(join(this.tmpDir, randomBytes(12).toString('hex')), this.disk);
  }

  bucket(name: string): Bucket {
    const bucket = this.buckets.get(name);
    if (!bucket)
      throw new S3Error('NoSuchBucket', `The specified bucket does not exist: ${name}`, { BucketName: name });
    return bucket;
  }

  async createBucket(name: string): Promise<void> {
    if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name) || name.includes('..'))
      throw new S3Error('InvalidBucketName', `The specified bucket is not valid: ${name}`, {
        BucketName: name,
      });
    if (this.buckets.has(name))
      throw new S3Error('BucketAlreadyOwnedByYou', `The bucket ${name} exists already and is yours.`, {
        BucketName: name,
      });
    const bucket = new Bucket(name, join(this.bucketsDir, name), Date.now(), this.disk);
    this.buckets.set(name, bucket);
    try {
      await bucket.load();
      await this.disk.syncDirectory(bucket.dir);
      await this.disk.syncDirectory(this.bucketsDir);
    } catch (error) {
      this.buckets.delete(name);
      throw error;
    }
  }

  async deleteBucket(name: string): Promise<void> {
    const bucket = this.bucket(name);
    if (bucket.index.size > 0)
      throw new S3Error('BucketNotEmpty', `The bucket ${name} is not empty.`, { BucketName: name });
    this.buckets.delete(name);
    // First out of the way by one rename, then removed: a crash half-way leaves rubbish in tmp/, not half a bucket.
    const grave = join(this.tmpDir, `bucket-${randomBytes(8).toString('hex')}`);
    await rename(bucket.dir, grave);
    await this.disk.syncDirectory(this.bucketsDir);
    await rm(grave, { recursive: true, force: true });
  }
}
