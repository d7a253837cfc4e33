import { DocumentError, NotFoundError, StoreError, describeError } from '../platform/errors.js';
import type { AbortCause, Failure, RunEnd } from './messages.js';

/** The engine's word that this input can never be run; all ranks throw it, and the communicator lives. */
const DOCUMENT_CODES = new Set([
  'ENGINE_TOO_LONG',
  'ENGINE_TOO_LONG_FOR_MEMORY',
  'ENGINE_INVALID_ARGUMENT',
  'ENGINE_UNSUPPORTED',
]);

/** Why an item could not be prepared: the item's own fault, or that of what lies around it. */
export function prepareFailure(error: unknown): Failure {
  const { code, message } = describeError(error);
  const document =
    error instanceof DocumentError ||
    error instanceof NotFoundError ||
    error instanceof StoreError ||
    DOCUMENT_CODES.has(code);
  return { kind: document ? 'document' : 'infrastructure', code, message };
}

/** What an engine call's error means: an end that leaves the communicator whole, or the cohort's loss. */
export function runFailure(error: unknown, rank: number): { end: RunEnd } | { lost: AbortCause } {
  const { code, message } = describeError(error);
  if (code === 'ENGINE_STOPPED') return { end: 'stopped' };
  if (error instanceof DocumentError || DOCUMENT_CODES.has(code))
    return { end: { kind: 'document', code, message } };
  const peer = typeof error === 'object' && error !== null && 'peer' in error ? error.peer : undefined;
  return { lost: { code, message, rank: typeof peer === 'number' ? peer : rank } };
}

/** Causes that say nothing about the item that was being run. */
const BLAMELESS = new Set(['SUPERSEDED', 'FENCED', 'LEASE_LOST', 'LEAVE_TIMEOUT', 'CLOSED']);

/** Whether a cohort's loss counts as an engine death of the item it was running. */
export function isEngineDeath(cause: AbortCause): boolean {
  return !BLAMELESS.has(cause.code);
}
