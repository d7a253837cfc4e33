import { describe, expect, it } from 'vitest';
import { faultBackoff } from '../../src/gpu-worker/counters.js';
import { isEngineDeath, prepareFailure, runFailure } from '../../src/gpu-worker/failures.js';
import { Gate } from '../../src/gpu-worker/gate.js';
import { DocumentError, InfrastructureError, NotFoundError, StoreError } from '../../src/platform/errors.js';

const native = (code: string, peer?: number) => Object.assign(new Error(code), { code, peer });

describe('what an error means', () => {
  it('of preparing: the item’s own fault, or that of what lies around it', () => {
    for (const error of [
      new DocumentError('TOO_LONG', 'x'),
      new NotFoundError('x'),
      new StoreError('TRUNCATED', 'x'),
      native('ENGINE_INVALID_ARGUMENT'),
    ])
      expect(prepareFailure(error).kind).toBe('document');
    for (const error of [new InfrastructureError('S3', 'x'), new Error('x'), native('ENGINE_OUT_OF_MEMORY')])
      expect(prepareFailure(error).kind).toBe('infrastructure');
  });

  it('of running: an end that all ranks share, or the cohort’s loss with the rank at fault', () => {
    expect(runFailure(native('ENGINE_STOPPED'), 1)).toEqual({ end: 'stopped' });
    expect(runFailure(native('ENGINE_TOO_LONG'), 1)).toMatchObject({ end: { kind: 'document' } });
    expect(runFailure(native('ENGINE_TOO_LONG_FOR_MEMORY'), 1)).toMatchObject({ end: { kind: 'document' } });
    expect(runFailure(native('COMM_PEER_LOST', 2), 1)).toMatchObject({
      lost: { code: 'COMM_PEER_LOST', rank: 2 },
    });
    expect(runFailure(native('ENGINE_OUT_OF_MEMORY'), 1)).toMatchObject({ lost: { rank: 1 } });
  });

  it('a loss that says nothing about the item is no engine death', () => {
    const loss = (code: string) => isEngineDeath({ code, message: '', rank: null });
    for (const code of ['COMM_PEER_LOST', 'RANK_SILENT', 'RUN_TIMEOUT']) expect(loss(code)).toBe(true);
    for (const code of ['LEASE_LOST', 'SUPERSEDED', 'FENCED']) expect(loss(code)).toBe(false);
  });
});

it('the back-off doubles up to its last value', () => {
  expect([1, 2, 3, 4, 100].map((faults) => faultBackoff(faults, 200, 1000))).toEqual([
    200, 400, 800, 1000, 1000,
  ]);
});

it('the gate opens when the last reason is gone, and tells only changes', () => {
  const changes: boolean[] = [];
  const gate = new Gate((open) => changes.push(open));
  gate.set('uncommitted', true);
  gate.set('cohort', false);
  expect(gate.isOpen).toBe(false);
  gate.set('uncommitted', false);
  gate.set('drain', true);
  gate.set('drain', true);
  expect(gate.closedBy).toEqual(['drain']);
  expect(changes).toEqual([true, false]);
});
