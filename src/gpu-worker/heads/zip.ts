/**
 * The zip archives that torch.save writes: every entry stored as it is, with zip64 records. Compressed
 * entries are refused, so that no entry is larger than its bytes in the file.
 */
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { ArchiveError } from './errors.js';

export interface ZipEntry {
  name: string;
  /** Of the first data byte in the file. */
  offset: number;
  size: number;
  crc: number;
}

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const END_SIZE = 22;
const LOCATOR_SIZE = 20;
const MAX_COMMENT = 65_535;
const MAX_DIRECTORY = 64 << 20;

export async function readAt(file: FileHandle, offset: number, size: number): Promise<Buffer> {
  const buffer = Buffer.alloc(size);
  const { bytesRead } = await file.read(buffer, 0, size, offset);
  if (bytesRead !== size) {
    throw new ArchiveError(
      `the file ends at byte ${offset + bytesRead}, in the middle of its data; download it again`,
    );
  }
  return buffer;
}

/** Reads one entry whole and checks its checksum. */
export async function readEntry(file: FileHandle, entry: ZipEntry): Promise<Buffer> {
  const data = await readAt(file, entry.offset, entry.size);
  if (crc32(data) !== entry.crc) {
    throw new ArchiveError(`entry ${entry.name} does not match its checksum; download the file again`);
  }
  return data;
}

function safe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new ArchiveError(`${what} is ${value}, which no file has`);
  return Number(value);
}

/** Position, size and number of entries of the central directory. */
async function findDirectory(file: FileHandle, fileSize: number) {
  if (fileSize < END_SIZE) throw new ArchiveError(`${fileSize} bytes are no zip archive`);
  const tailSize = Math.min(fileSize, END_SIZE + MAX_COMMENT);
  const tail = await readAt(file, fileSize - tailSize, tailSize);
  let at = tailSize - END_SIZE;
  // The comment must reach to the end of the file, so that no second record hides in it.
  while (
    at >= 0 &&
    !(tail.readUInt32LE(at) === END && at + END_SIZE + tail.readUInt16LE(at + 20) === tailSize)
  )
    at--;
  if (at < 0) {
    throw new ArchiveError(
      'this is no zip archive, or it is truncated; give a .bin file that torch.save wrote, or download it again',
    );
  }
  const end = fileSize - tailSize + at;
  if (end >= LOCATOR_SIZE) {
    const locator = await readAt(file, end - LOCATOR_SIZE, LOCATOR_SIZE);
    if (locator.readUInt32LE(0) === LOCATOR64) {
      const record = safe(locator.readBigUInt64LE(8), 'the end of the directory');
      if (record + 56 > end) throw new ArchiveError('the end of the directory lies outside the file');
      const end64 = await readAt(file, record, 56);
      if (end64.readUInt32LE(0) !== END64) throw new ArchiveError('the end of the directory is damaged');
      return {
        count: safe(end64.readBigUInt64LE(32), 'the number of entries'),
        size: safe(end64.readBigUInt64LE(40), 'the size of the directory'),
        offset: safe(end64.readBigUInt64LE(48), 'the position of the directory'),
        limit: record,
      };
    }
  }
  return {
    count: tail.readUInt16LE(at + 10),
    size: tail.readUInt32LE(at + 12),
    offset: tail.readUInt32LE(at + 16),
    limit: end,
  };
}

/** The 64-bit values that replace fields of 0xffffffff, in their order. */
function zip64Values(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length;) {
    const [id, size] = [extra.readUInt16LE(at), extra.readUInt16LE(at + 2)];
    if (at + 4 + size > extra.length) break;
    if (id === 1) {
      return Array.from({ length: Math.floor(size / 8) }, (_, i) => extra.readBigUInt64LE(at + 4 + 8 * i));
    }
    at += 4 + size;
  }
  return [];
}

/**
 * All entries by name.
 * @throws ArchiveError for anything but stored, unencrypted, non-overlapping entries inside the file.
 */
export async function readDirectory(file: FileHandle): Promise<Map<string, ZipEntry>> {
  const { size: fileSize } = await file.stat();
  const { count, size, offset, limit } = await findDirectory(file, fileSize);
  if (offset + size > limit) throw new ArchiveError('the directory lies outside the file; download it again');
  if (size > MAX_DIRECTORY || count > size / 46) {
    throw new ArchiveError(`a directory of ${count} entries in ${size} bytes is refused`);
  }
  const directory = await readAt(file, offset, size);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > size || directory.readUInt32LE(at) !== CENTRAL)
      throw new ArchiveError('the directory is damaged');
    const flags = directory.readUInt16LE(at + 8);
    const method = directory.readUInt16LE(at + 10);
    const lengths = [28, 30, 32].map((field) => directory.readUInt16LE(at + field)) as [
      number,
      number,
      number,
    ];
    const next = at + 46 + lengths[0] + lengths[1] + lengths[2];
    if (next > size) throw new ArchiveError('the directory is damaged');
    const name = directory.toString('utf8', at + 46, at + 46 + lengths[0]);
    if ((flags & 0x2041) !== 0) throw new ArchiveError(`entry ${name} is encrypted`);
    if (method !== 0) {
      throw new ArchiveError(
        `entry ${name} is compressed, which torch.save never does; save the file again with torch.save`,
      );
    }
    const wide = zip64Values(directory.subarray(at + 46 + lengths[0], at + 46 + lengths[0] + lengths[1]));
    const field = (position: number): number => {
      const value = directory.readUInt32LE(at + position);
      return value === 0xffffffff ? safe(wide.shift() ?? -1n, `a field of entry ${name}`) : value;
    };
    const full = field(24);
    const stored = field(20);
    const header = field(42);
    if (full !== stored) throw new ArchiveError(`entry ${name} has two sizes, ${full} and ${stored}`);
    if (entries.has(name)) throw new ArchiveError(`two entries are named ${name}`);
    entries.set(name, { name, offset: header, size: full, crc: directory.readUInt32LE(at + 16) });
    at = next;
  }
  await locateData(file, entries, offset);
  return entries;
}

/** Turns the offsets of local headers into those of the data behind them; data may not overlap. */
async function locateData(file: FileHandle, entries: Map<string, ZipEntry>, limit: number): Promise<void> {
  let free = 0;
  for (const entry of [...entries.values()].sort((a, b) => a.offset - b.offset)) {
    const { name, offset } = entry;
    if (offset < free || offset + 30 > limit)
      throw new ArchiveError(`entry ${name} lies outside the file or in another entry`);
    const local = await readAt(file, offset, 30);
    if (local.readUInt32LE(0) !== LOCAL) throw new ArchiveError(`entry ${name} is damaged`);
    entry.offset = offset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
    free = entry.offset + entry.size;
    if (free > limit)
      throw new ArchiveError(
        `entry ${name} reaches beyond the entries; the file is truncated, download it again`,
      );
  }
}
