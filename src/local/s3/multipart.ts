import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createHasher, type ChecksumAlgorithm } from './checksums.js';
import { S3Error } from './errors.js';
import { defaultChecksum, type Received } from './payload.js';
import { openSealed, readRange, readSealedRecord, StagedFile } from './sealed-file.js';
import type { Bucket, Conditions, ObjectRecord, Store, StoredChecksum } from './store.js';

/**
 * Multipart uploads, wholly on disk: uploads/<id>/upload.json and one sealed file per part. Nothing
 * about them is kept in memory, so a restart changes nothing.
 */
export interface Upload {
  id: string;
  key: string;
  started: number;
  headers: Record<string, string>;
  checksumAlgorithm?: ChecksumAlgorithm;
  checksumType?: StoredChecksum['type'];
}

export interface Part {
  number: number;
  size: number;
  etag: string;
  modified: number;
  checksum?: { algorithm: ChecksumAlgorithm; value: string };
}

/** What a client names when it completes an upload. */
export interface NamedPart {
  number: number;
  etag: string;
  checksum?: { algorithm: ChecksumAlgorithm; value: string };
}

const minPart = 5 * 1024 * 1024;
const partName = (number: number): string => `part-${String(number).padStart(5, '0')}`;

const noSuchUpload = (id: string): S3Error =>
  new S3Error('NoSuchUpload', 'The specified upload does not exist. It may have been aborted or completed.', {
    UploadId: id,
  });

export async function createUpload(
  store: Store,
  bucket: Bucket,
  upload: Omit<Upload, 'id' | 'started'>,
): Promise<Upload> {
  const full: Upload = { id: randomBytes(24).toString('hex'), started: Date.now(), ...upload };
  // Made complete beside the uploads, then moved there: an upload that is seen has its record.
  const building = join(store.tmpDir, full.id);
  await mkdir(building);
  const staged = await StagedFile.create(join(store.tmpDir, `${full.id}.json`), store.disk);
  try {
    await staged.seal(full);
    await staged.publish(join(building, 'upload'));
  } finally {
    await staged.discard();
  }
  await rename(building, join(bucket.uploadsDir, full.id));
  await store.disk.syncDirectory(bucket.uploadsDir);
  return full;
}

function uploadDir(bucket: Bucket, id: string): string {
  // The id comes from the client and becomes part of a path.
  if (!/^[0-9a-f]{48}$/.test(id)) throw noSuchUpload(id);
  return join(bucket.uploadsDir, id);
}

export async function findUpload(bucket: Bucket, id: string, key: string): Promise<Upload> {
  let upload: Upload;
  try {
    upload = (await readSealedRecord<Upload>(join(uploadDir(bucket, id), 'upload'))).record;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw noSuchUpload(id);
    throw error;
  }
  if (upload.key !== key) throw noSuchUpload(id);
  return upload;
}

export async function putPart(
  bucket: Bucket,
  id: string,
  number: number,
  staged: StagedFile,
  got: Received,
): Promise<Part> {
  const part: Part = {
    number,
    size: got.size,
    etag: got.md5.toString('hex'),
    modified: Date.now(),
    checksum: got.sent ? got.checksum : undefined,
  };
  await staged.seal(part);
  try {
    await staged.publish(join(uploadDir(bucket, id), partName(number)));
  } catch (error) {
    // Completed or aborted while the part was coming in.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw noSuchUpload(id);
    throw error;
  }
  return part;
}

export async function listParts(bucket: Bucket, id: string): Promise<Part[]> {
  const dir = uploadDir(bucket, id);
  const names = (await readdir(dir)).filter((n) => n.startsWith('part-')).sort();
  return Promise.all(names.map(async (n) => (await readSealedRecord<Part>(join(dir, n))).record));
}

export async function listUploads(bucket: Bucket): Promise<Upload[]> {
  const ids = await readdir(bucket.uploadsDir);
  return Promise.all(
    ids.map(async (id) => (await readSealedRecord<Upload>(join(bucket.uploadsDir, id, 'upload'))).record),
  );
}

export async function abortUpload(store: Store, bucket: Bucket, id: string): Promise<void> {
  const grave = join(store.tmpDir, `aborted-${randomBytes(8).toString('hex')}`);
  try {
    await rename(uploadDir(bucket, id), grave);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw noSuchUpload(id);
    throw error;
  }
  await store.disk.syncDirectory(bucket.uploadsDir);
  await rm(grave, { recursive: true, force: true });
}

/** The parts that make the object, in order, each compared with what the client named. */
function chosenParts(named: NamedPart[], stored: Part[]): Part[] {
  const byNumber = new Map(stored.map((p) => [p.number, p]));
  named.forEach(({ number }, i) => {
    const before = named[i - 1];
    if (before && before.number >= number)
      throw new S3Error(
        'InvalidPartOrder',
        `The list of parts was not in ascending order at part ${number}.`,
      );
  });
  return named.map((name, i) => {
    const part = byNumber.get(name.number);
    const wrongSum = name.checksum && part?.checksum && name.checksum.value !== part.checksum.value;
    if (!part || part.etag !== name.etag || wrongSum)
      throw new S3Error(
        'InvalidPart',
        `Part ${name.number} could not be found, or its ETag or checksum is not the one that was stored.`,
        {
          PartNumber: String(name.number),
        },
      );
    if (i < named.length - 1 && part.size < minPart)
      throw new S3Error('EntityTooSmall', 'Your proposed upload is smaller than the minimum allowed size', {
        ProposedSize: String(part.size),
        MinSizeAllowed: String(minPart),
        PartNumber: String(name.number),
      });
    return part;
  });
}

function compositeChecksum(algorithm: ChecksumAlgorithm, parts: Part[]): StoredChecksum | undefined {
  const values = parts.map((p) => (p.checksum?.algorithm === algorithm ? p.checksum.value : undefined));
  if (values.some((v) => v === undefined)) return undefined;
  const hasher = createHasher(algorithm);
  for (const value of values) hasher.update(Buffer.from(value ?? '', 'base64'));
  return { algorithm, value: `${hasher.digest().toString('base64')}-${parts.length}`, type: 'COMPOSITE' };
}

export async function completeUpload(
  store: Store,
  bucket: Bucket,
  upload: Upload,
  named: NamedPart[],
  conditions: Conditions,
  expectedChecksum?: string,
): Promise<ObjectRecord> {
  const parts = chosenParts(named, await listParts(bucket, upload.id));
  const algorithm = upload.checksumAlgorithm ?? defaultChecksum;
  const isWhole = upload.checksumAlgorithm === undefined || upload.checksumType === 'FULL_OBJECT';
  const whole = isWhole ? createHasher(algorithm) : undefined;
  const staged = await store.stage();
  try {
    const etag = createHash('md5');
    for (const part of parts) {
      const opened = await openSealed<Part>(join(uploadDir(bucket, upload.id), partName(part.number)));
      try {
        for await (const bytes of readRange(opened.handle, 0, opened.size)) {
          whole?.update(bytes);
          await staged.write(bytes);
        }
      } finally {
        await opened.handle.close();
      }
      etag.update(Buffer.from(part.etag, 'hex'));
    }
    const checksum: StoredChecksum | undefined = whole
      ? { algorithm, value: whole.digest().toString('base64'), type: 'FULL_OBJECT' }
      : compositeChecksum(algorithm, parts);
    if (
      expectedChecksum !== undefined &&
      checksum &&
      expectedChecksum.replace(/-\d+$/, '') !== checksum.value.replace(/-\d+$/, '')
    )
      throw new S3Error(
        'BadDigest',
        `The ${checksum.algorithm} you specified did not match the calculated checksum.`,
      );
    const record: ObjectRecord = {
      key: upload.key,
      size: staged.size,
      etag: `${etag.digest('hex')}-${parts.length}`,
      modified: Date.now(),
      headers: upload.headers,
      checksum,
      uploadId: upload.id,
    };
    await bucket.commit(staged, record, conditions);
    await abortUpload(store, bucket, upload.id);
    return record;
  } finally {
    await staged.discard();
  }
}
