import { LonghaulError } from '../platform/errors.js';

/** A document that cannot be read as text. The message goes on after the source's name. */
export class SourceError extends LonghaulError {}

export function tooLarge(name: string, limit: number): SourceError {
  return new SourceError(
    'DOCUMENT_TOO_LARGE',
    `${name} is larger than ${limit} bytes (documentMaxBytes), the most one document may have; split it`,
  );
}
