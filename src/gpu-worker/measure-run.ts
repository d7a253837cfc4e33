import { passedBytes, phaseDuration, prefillPartDuration } from '../platform/metrics.js';
import type { RunOutput } from './run-item.js';

const LOSSES = new Set([
  'LEASE_LOST',
  'RANK_SILENT',
  'SUPERSEDED',
  'FENCED',
  'VANISHED',
  'NOT_SEALED',
  'CLOSED',
]);

/** A cohort's loss by one of few names: those above, TIMEOUT, ENGINE, OTHER. */
export function lossCause(code: string): string {
  if (LOSSES.has(code)) return code;
  if (code.endsWith('_TIMEOUT')) return 'TIMEOUT';
  return code.startsWith('ENGINE_') ? 'ENGINE' : 'OTHER';
}

/** Measures this rank's part of a run that is over. */
export function measureRun(
  prepareSeconds: number,
  { prefillSeconds, decodeSeconds, phases, passedBytes: passed }: Omit<RunOutput, 'decoded'>,
): void {
  phaseDuration.observe({ phase: 'prepare' }, prepareSeconds);
  phaseDuration.observe({ phase: 'prefill' }, prefillSeconds);
  phaseDuration.observe({ phase: 'decode' }, decodeSeconds);
  for (const [part, seconds] of Object.entries(phases ?? {})) prefillPartDuration.observe({ part }, seconds);
  passedBytes.inc({ direction: 'sent' }, passed.sent);
  passedBytes.inc({ direction: 'received' }, passed.received);
}
