/**
 * A temporary file that no name leads to: it is gone with the process, however that ends. Holds what
 * is too much for memory between two passes over an input file.
 */
import { randomUUID } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where something stands in a spool, in bytes. */
export interface Place {
  start: number;
  length: number;
}

export class Spool {
  private constructor(private readonly file: FileHandle) {}
  private end = 0;

  /** The caller closes it in a `finally`. */
  static async open(): Promise<Spool> {
    const path = join(tmpdir(), `longhaul-${process.pid}-${randomUUID()}`);
    const file = await open(path, 'wx+', 0o600);
    try {
      await rm(path);
      return new Spool(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get length(): number {
    return this.end;
  }

  /** Several may be under way; each gets a place of its own. */
  async append(bytes: Uint8Array): Promise<Place> {
    const place = { start: this.end, length: bytes.byteLength };
    this.end += bytes.byteLength;
    for (let done = 0; done < bytes.byteLength;) {
      const left = bytes.byteLength - done;
      done += (await this.file.write(bytes, done, left, place.start + done)).bytesWritten;
    }
    return place;
  }

  async read({ start, length }: Place): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.file.read(bytes, done, length - done, start + done);
      if (bytesRead === 0) throw new Error(`the temporary file ends at ${start + done}`);
      done += bytesRead;
    }
    return bytes;
  }

  async appendValue(value: unknown): Promise<Place> {
    return this.append(Buffer.from(JSON.stringify(value)));
  }

  /** What `appendValue` put there. */
  async readValue(place: Place): Promise<unknown> {
    return JSON.parse((await this.read(place)).toString('utf8'));
  }

  /** All of it, in order. */
  async *stream(size = 1 << 20): AsyncGenerator<Buffer> {
    for (let start = 0; start < this.end; start += size) {
      yield await this.read({ start, length: Math.min(size, this.end - start) });
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
