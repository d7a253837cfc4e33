import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Disk } from './disk.js';

/**
 * A file that carries bytes and a JSON record about them: body first, then the record, then its
 * length and a magic word. Both arrive by one rename, so there is never a body without its record,
 * and a file that was cut short has no magic word and is not an object.
 */
const magic = Buffer.from('LHSEAL01');
const footerSize = 4 + magic.length;
const tailSize = 4096;

/** A file being written under a temporary name. */
export class StagedFile {
  size = 0;
  private done = false;
  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    private readonly disk: Disk,
  ) {}

  static async create(path: string, disk: Disk): Promise<StagedFile> {
    return new StagedFile(path, await open(path, 'wx', 0o600), disk);
  }

  async write(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await this.handle.write(bytes, at, bytes.length - at, this.size);
      at += bytesWritten;
      this.size += bytesWritten;
    }
  }

  /** Adds the record and forces everything to the disk; the file still has its temporary name. */
  async seal(record: unknown): Promise<void> {
    const json = Buffer.from(JSON.stringify(record));
    const footer = Buffer.alloc(footerSize);
    footer.writeUInt32BE(json.length);
    magic.copy(footer, 4);
    await this.handle.write(Buffer.concat([json, footer]), 0, json.length + footerSize, this.size);
    await this.disk.syncFile(this.handle);
    await this.handle.close();
    this.done = true;
  }

  /** Gives the sealed file its final name, for good once this returns. */
  async publish(path: string): Promise<void> {
    if (!this.done) throw new Error('publish() before seal()');
    await rename(this.path, path);
    await this.disk.syncDirectory(dirname(path));
  }

  /** Removes what was not published; harmless afterwards. */
  async discard(): Promise<void> {
    if (!this.done) await this.handle.close();
    this.done = true;
    await rm(this.path, { force: true });
  }
}

/** A published file, open for reading: later replacements and deletions do not change what is read. */
export interface OpenedFile<R> {
  record: R;
  size: number;
  handle: FileHandle;
}

export async function openSealed<R>(path: string): Promise<OpenedFile<R>> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const tail = Buffer.alloc(Math.min(size, tailSize));
    await readFully(handle, tail, size - tail.length);
    if (tail.length < footerSize || !tail.subarray(-magic.length).equals(magic))
      throw new Error(`${path} is not a sealed object file.`);
    const length = tail.readUInt32BE(tail.length - footerSize);
    const body = size - footerSize - length;
    if (body < 0) throw new Error(`${path} has a record longer than itself.`);
    let json = tail.subarray(-(footerSize + length), -footerSize);
    if (length + footerSize > tail.length) {
      json = Buffer.alloc(length);
      await readFully(handle, json, body);
    }
    return { record: JSON.parse(json.toString()) as R, size: body, handle };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export async function readSealedRecord<R>(path: string): Promise<{ record: R; size: number }> {
  const { record, size, handle } = await openSealed<R>(path);
  await handle.close();
  return { record, size };
}

async function readFully(handle: FileHandle, into: Buffer, position: number): Promise<void> {
  for (let at = 0; at < into.length;) {
    const { bytesRead } = await handle.read(into, at, into.length - at, position + at);
    if (bytesRead === 0) throw new Error('The file ended early.');
    at += bytesRead;
  }
}

/** The bytes `from` up to but without `to`, in pieces. */
export async function* readRange(handle: FileHandle, from: number, to: number): AsyncGenerator<Buffer> {
  const piece = 256 * 1024;
  for (let at = from; at < to;) {
    const buffer = Buffer.allocUnsafe(Math.min(piece, to - at));
    await readFully(handle, buffer, at);
    at += buffer.length;
    yield buffer;
  }
}
