import { LonghaulError } from '../platform/errors.js';
import type { AbortCause } from './messages.js';

/** The cohort was given up; the process exits with 75 and forms anew. */
export class CohortLostError extends LonghaulError {
  constructor(readonly lost: AbortCause) {
    super(lost.code, lost.message);
  }
}

/** The right to run the item ended: the lock was lost, or could not be shown to be held. */
export class LeaseLostError extends LonghaulError {
  constructor(message: string) {
    super('LEASE_LOST', message);
  }
}
