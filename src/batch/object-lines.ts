import type { ObjectStore } from '../platform/object-store.js';

/** Bytes of one ranged read. */
const RANGE = 8 * 1024 * 1024;

/** The lines of an object of known size, without their newlines; at most a range and a line in memory. */
export async function* objectLines(
  store: ObjectStore,
  { key, bytes }: { key: string; bytes: number },
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for (let start = 0; start < bytes; start += RANGE) {
    const range = await store.getRange(key, start, Math.min(start + RANGE, bytes), signal);
    let from = 0;
    for (let end = range.indexOf(10); end >= 0; end = range.indexOf(10, from)) {
      yield Buffer.concat([rest, range.subarray(from, end)]);
      rest = Buffer.alloc(0);
      from = end + 1;
    }
    rest = Buffer.concat([rest, range.subarray(from)]);
  }
  if (rest.length > 0) yield rest;
}
