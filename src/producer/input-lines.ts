import type { FileHandle } from 'node:fs/promises';

/** Enough for a document of the largest size written inline, most of it escaped. */
export const MAX_LINE_BYTES = 128 * 1024 * 1024;

export interface InputLine {
  /** 1-based. */
  line: number;
  /** Where it starts in the file. */
  offset: number;
  /** Without the line break; null when the line is longer than the limit. */
  bytes: Buffer | null;
}

const LINE_FEED = 0x0a;

/** The lines of a file, one at a time; a line that is too long is passed over without keeping it. */
export async function* readLines(
  file: FileHandle,
  { limit = MAX_LINE_BYTES, signal }: { limit?: number; signal?: AbortSignal } = {},
): AsyncGenerator<InputLine> {
  let line = 1;
  let start = 0;
  let parts: Buffer[] = [];
  let length = 0;
  const take = (): InputLine => ({
    line,
    offset: start,
    bytes: length > limit ? null : Buffer.concat(parts),
  });
  const keep = (part: Buffer) => {
    length += part.length;
    if (length > limit) parts = [];
    else parts.push(part);
  };
  // A stream made with an aborted signal fails before anybody listens.
  signal?.throwIfAborted();
  const stream = file.createReadStream({ autoClose: false, start: 0, highWaterMark: 1 << 18, signal });
  for await (const data of stream) {
    const chunk = data as Buffer;
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at !== -1; at = chunk.indexOf(LINE_FEED, from)) {
      keep(chunk.subarray(from, at));
      yield take();
      start += length + 1;
      line += 1;
      parts = [];
      length = 0;
      from = at + 1;
    }
    keep(chunk.subarray(from));
  }
  if (length > 0) yield take();
}
