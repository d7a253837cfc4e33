import { createHash, randomBytes } from 'node:crypto';
import { canonicalJson } from './canonical.js';

/** The id of a batch with this content: equal content is one batch. Undefined content draws an id. */
export function batchId(content: object | undefined): string {
  const hex =
    content === undefined
      ? randomBytes(16).toString('hex')
      : createHash('sha256').update(canonicalJson(content)).digest('hex').slice(0, 32);
  return `batch_${hex}`;
}
