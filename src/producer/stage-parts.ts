/** Stores the parts of a document that is too long for the model. */
import { documentBytes, storeDocument } from '../batch/documents.js';
import type { PartPlace } from '../contracts/manifest.js';
import type { ObjectStore } from '../platform/object-store.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { splitTokens } from './split.js';
import type { Spool } from './spool.js';
import type { StagedDocument } from './stage-documents.js';

const ID_BYTES = 4;

export interface StagedPart extends StagedDocument, Pick<PartPlace, 'index' | 'count' | 'start' | 'end'> {
  /** It was in S3 already. */
  existed: boolean;
}

/**
 * Each part is a document of its own, with the prompt's marks around it. The first keeps the ids that the whole begins
 * with and the last those it ends with, where text of the prompt may be in one token with the document's.
 * @param spool the ids of the whole, as `documentBytes` gives them
 * @throws ConfigError like `splitTokens`
 */
export async function stageParts(
  { store, tokenizer, signal }: { store: ObjectStore; tokenizer: Tokenizer; signal?: AbortSignal },
  spool: Spool,
  { most, overlap }: { most: number; overlap: number },
): Promise<StagedPart[]> {
  const frame = await tokenizer.documentFrame();
  const [before, after] = [documentBytes(frame.before), documentBytes(frame.after)];
  const first = await spool.read({ start: 0, length: Math.min(before.length, spool.length) });
  const last = await spool.read({
    start: Math.max(0, spool.length - after.length),
    length: Math.min(after.length, spool.length),
  });
  const head = commonIds(first, before);
  const tail = commonIds(last.reverse(), Buffer.from(after).reverse());
  const room = most - frame.before.length - frame.after.length;
  const ranges = splitTokens(spool.length / ID_BYTES - head - tail, { most: room, overlap });
  const parts: StagedPart[] = [];
  for (const [index, { start, end }] of ranges.entries()) {
    const ids = await spool.read({
      start: (head + start) * ID_BYTES,
      length: (end - start) * ID_BYTES,
    });
    const opening = index === 0 ? before.subarray(0, head * ID_BYTES) : before;
    const closing = index === ranges.length - 1 ? after.subarray(after.length - tail * ID_BYTES) : after;
    const bytes = Buffer.concat([opening, ids, closing]);
    const stored = await storeDocument({ store }, tokenizer.digest, bytes, signal);
    parts.push({ ...stored, index, count: ranges.length, start, end });
  }
  return parts;
}

/** How many ids both begin with. */
function commonIds(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  let same = 0;
  while (same < most && one[same] === other[same]) same += 1;
  return Math.floor(same / ID_BYTES);
}
