import { describe, expect, it } from 'vitest';
import { cohortKeys, jobIds, objectKeys, QUEUE_PREFIX, redisKeys } from '../../src/platform/keys.js';

describe('keys', () => {
  it('keep all queue and batch keys in one hash slot, and each cohort in its own', () => {
    for (const key of [
      redisKeys.batch('b'),
      redisKeys.batchOutcomes('b'),
      redisKeys.item('b', 1),
      redisKeys.batches(),
    ]) {
      expect(key.startsWith(QUEUE_PREFIX + ':')).toBe(true);
    }
    const cohort = cohortKeys('main');
    expect(cohort.control('3.abc')).toMatch(/^\{cohort:main\}:/);
    expect(cohort.heartbeat('3.abc', 1)).not.toBe(cohort.heartbeat('3.abc', 2));
  });

  it('make job ids that BullMQ accepts: no colon, not an integer', () => {
    for (const id of [jobIds.document('b1', 0), jobIds.outcome('b1', 0), jobIds.finalise('1')]) {
      expect(id).not.toContain(':');
      expect(Number.isInteger(Number(id))).toBe(false);
    }
    expect(jobIds.document('b', 1)).not.toBe(jobIds.outcome('b', 1));
  });

  it('order outcomes by ordinal and keep a custom id out of the path', () => {
    expect(objectKeys.outcome('b', 9, '../x') < objectKeys.outcome('b', 10, 'a')).toBe(true);
    expect(objectKeys.outcome('b', 9, '../x')).toMatch(/^batches\/b\/outcomes\/00000009-[0-9a-f]{16}\.json$/);
  });
});
