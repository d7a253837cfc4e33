/** A document beyond the model's length to parts; pure. */
import { ConfigError } from '../platform/errors.js';

export interface TokenRange {
  /** Tokens [start, end). */
  start: number;
  end: number;
}

/**
 * As few parts as there can be, of lengths that differ by one token at most; each begins `overlap` tokens before the
 * one before it ends. Together they are the whole.
 * @param most tokens of one part
 * @throws ConfigError when so much overlap leaves less than half of a part for what is new.
 */
export function splitTokens(
  tokens: number,
  { most, overlap }: { most: number; overlap: number },
): TokenRange[] {
  if (tokens <= most) return [{ start: 0, end: tokens }];
  if (most < 1 || overlap > most / 2) {
    throw new ConfigError(
      `an overlap of ${overlap} tokens is more than half of the ${Math.max(0, most)} that a part may have beside its question and answer; lower the overlap, the prompt or the answers' tokens`,
    );
  }
  const count = Math.ceil((tokens - overlap) / (most - overlap));
  const all = tokens + (count - 1) * overlap;
  const length = Math.floor(all / count);
  const longer = all % count;
  const parts: TokenRange[] = [];
  for (let start = 0; parts.length < count;) {
    const end = start + length + (parts.length < longer ? 1 : 0);
    parts.push({ start, end });
    start = end - overlap;
  }
  return parts;
}

/** The `custom_id` of a part's request. It begins like no id of a whole document of the same batch. */
export function partId(customId: string, index: number, count: number): string {
  return `part ${index + 1} of ${count} of ${customId}`;
}
