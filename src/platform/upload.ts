import { createHash } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  PutObjectCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3';

/** Part size of multipart uploads, and the size above which they are used. */
const PART_BYTES = 8 * 1024 * 1024;

export interface UploadTarget {
  Bucket: string;
  Key: string;
  /** `*`: only if there is no such object. Checked when the upload completes. */
  IfNoneMatch?: '*';
}

export interface Uploaded {
  bytes: number;
  sha256: string;
}

/**
 * Sends chunks as one object, in parts above 8 MB; holds one part. The object appears whole or not
 * at all: a failed upload takes its parts back (those of a killed process are the bucket's lifecycle
 * rule's). `beforeParts` runs before the first part and may throw to send nothing.
 * @throws what the S3 client throws.
 */
export async function upload(
  client: S3Client,
  target: UploadTarget,
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  { signal, beforeParts }: { signal?: AbortSignal; beforeParts?: () => Promise<void> } = {},
): Promise<Uploaded> {
  const { IfNoneMatch: _onlyNew, ...place } = target;
  const options = { abortSignal: signal };
  const hash = createHash('sha256');
  const parts: { ETag: string | undefined; PartNumber: number }[] = [];
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let bytes = 0;
  let UploadId: string | undefined;
  const flush = async () => {
    if (UploadId === undefined) {
      await beforeParts?.();
      ({ UploadId } = await client.send(new CreateMultipartUploadCommand(place), options));
    }
    const PartNumber = parts.length + 1;
    const part = { ...place, UploadId, PartNumber, Body: Buffer.concat(pending) };
    parts.push({ ETag: (await client.send(new UploadPartCommand(part), options)).ETag, PartNumber });
    pending = [];
    pendingBytes = 0;
  };
  try {
    for await (const chunk of chunks) {
      hash.update(chunk);
      pending.push(chunk);
      pendingBytes += chunk.byteLength;
      bytes += chunk.byteLength;
      if (pendingBytes >= PART_BYTES) await flush();
    }
    if (UploadId === undefined) {
      await client.send(new PutObjectCommand({ ...target, Body: Buffer.concat(pending) }), options);
    } else {
      if (pendingBytes > 0) await flush();
      const whole = { ...target, UploadId, MultipartUpload: { Parts: parts } };
      await client.send(new CompleteMultipartUploadCommand(whole), options);
    }
    return { bytes, sha256: hash.digest('hex') };
  } catch (error) {
    if (UploadId !== undefined) {
      const abort = new AbortMultipartUploadCommand({ ...place, UploadId });
      await client.send(abort).catch(() => undefined);
    }
    throw error;
  }
}
