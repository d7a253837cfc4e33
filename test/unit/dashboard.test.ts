import { expect, test } from 'vitest';
import { checkExposure } from '../../src/dashboard/access.js';
import { Pace } from '../../src/batch/pace.js';
import { hashPassword, verifyPassword } from '../../src/dashboard/password.js';
import { Sessions } from '../../src/dashboard/sessions.js';
import { axisSeconds, bytes, duration, milliseconds, pace, short } from '../../src/dashboard/web/format.js';

test('a password is known by its hash alone, and a damaged hash is refused', async () => {
  const hash = await hashPassword('correct horse');
  expect(hash).not.toContain('horse');
  expect(await verifyPassword('correct horse', hash)).toBe(true);
  expect(await verifyPassword('correct house', hash)).toBe(false);
  const config = { dashboardHost: '0.0.0.0', dashboardUrl: undefined };
  expect(() => checkExposure({ ...config, dashboardPasswordHash: hash })).not.toThrow();
  expect(() => checkExposure({ ...config, dashboardPasswordHash: hash.slice(0, -4) })).toThrow(/damaged/);
  expect(() => checkExposure({ ...config, dashboardPasswordHash: undefined })).toThrow(/is not set/);
  const local = { ...config, dashboardHost: '127.0.0.1', dashboardPasswordHash: undefined };
  expect(() => checkExposure(local)).not.toThrow();
});

test('an address has ten tries a minute, others none the less; knowing the password clears them', () => {
  const sessions = new Sessions();
  for (let i = 0; i < 10; i++) sessions.tried('10.0.0.1');
  expect(sessions.mayTry('10.0.0.1')).toBe(false);
  expect(sessions.mayTry('10.0.0.2')).toBe(true);
  sessions.forgive('10.0.0.1');
  expect(sessions.mayTry('10.0.0.1')).toBe(true);
});

test('a batch’s rate is that of its last steps, and falls while nothing ends', () => {
  const batch = new Pace(0);
  expect(batch.rate(0, 10_000)).toBeNull();
  expect(batch.rate(10, 20_000)).toBeCloseTo(1);
  expect(batch.rate(30, 30_000)).toBeCloseTo(1.5);
  expect(batch.rate(30, 70_000)).toBeCloseTo(0.5);
  // Outcomes were lost and are made again.
  expect(batch.rate(5, 80_000)).toBeCloseTo(5 / 80);
  const late = new Pace(0);
  expect(late.rate(100, 50_000)).toBeCloseTo(2);
});

test('numbers read well', () => {
  expect([0, 9.5, 950, 1234, 34_000, 1.2e6].map(short)).toEqual([
    '0',
    '9.5',
    '950',
    '1.2 k',
    '34 k',
    '1.2 M',
  ]);
  expect([0.0123, 0.42, 12, 200, 7500, 100_000].map(duration)).toEqual([
    '12 ms',
    '0.4 s',
    '12 s',
    '3 m 20 s',
    '2 h 5 m',
    '1 d 3 h',
  ]);
  expect([0, 0.219, 312, 3214].map(milliseconds)).toEqual(['0', '0.22 ms', '312 ms', '3.21 s']);
  expect([5, 200, 90_000].map(axisSeconds)).toEqual(['5 s', '3.3 m', '25 h']);
  expect([2 * 1024 ** 2, 1.5 * 1024 ** 3].map(bytes)).toEqual(['2 MB', '1.5 GB']);
  expect([12, 0.5, 0.05, 0.001].map(pace)).toEqual(['12 /s', '30 /min', '3.0 /min', '3.6 /h']);
});
