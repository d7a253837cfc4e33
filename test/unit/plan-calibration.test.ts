import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  calibrationPath,
  readCalibration,
  writeCalibration,
  type Calibration,
  type Subject,
} from '../../src/plan/calibration.js';
import { tempDir } from '../support/services.js';
import { plain } from './plan-support.js';

let directory: string;
beforeAll(async () => {
  directory = await tempDir('longhaul-calibration-');
});
afterAll(() => rm(directory, { recursive: true }));

const model = 'a'.repeat(64);
const subject: Subject = {
  model,
  machine: 'X, 2 processors',
  backend: 'cpu',
  threads: 1,
  precision: 'float32',
};
const calibration: Calibration = {
  format: 'longhaul-calibration/1',
  ...subject,
  engine: 'cpu (avx2, 1 thread)',
  comm: 'tcp',
  seconds_by: 'processor',
  places: 2,
  measured_at: '2026-11-30T12:00:00.000Z',
  measurements: [
    { way: plain('full', 1), blocks: [2048], seconds: [0.2] },
    { way: plain('full', 1), blocks: [512], seconds: [0.03] },
  ],
  rates: { rowSeconds: 1e-5, pairSeconds: 1e-8 },
};

test('each model, machine, backend, number of threads and precision has a file of its own', () => {
  const others: Partial<Subject>[] = [
    {},
    { model: 'b'.repeat(64) },
    { machine: 'X, 4 processors' },
    { backend: 'cuda' },
    { threads: 2 },
    { precision: 'bf16' },
  ];
  const paths = others.map((change) => calibrationPath({ ...subject, ...change }, '/cache'));
  expect(new Set(paths).size).toBe(others.length);
  expect(paths[0]).toMatch(/^\/cache\/a{16}-[0-9a-f]{16}\.json$/);
});

test('what was written is read again, in a folder that is made for it', async () => {
  const path = join(directory, 'deep', 'calibration.json');
  expect(await readCalibration(path, model)).toBeUndefined();
  await writeCalibration(path, calibration);
  expect(await readCalibration(path, model)).toEqual(calibration);
});

test('a damaged file, one of another model and a place that takes none are refused with what to do', async () => {
  const path = join(directory, 'calibration.json');
  await writeCalibration(path, calibration);
  await expect(readCalibration(path, 'b'.repeat(64))).rejects.toThrow(
    `${path} is of model aaaaaaaaaaaa, and this one is bbbbbbbbbbbb; make one with longhaul plan --calibrate`,
  );
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.slice(0, 100));
  await expect(readCalibration(path, model)).rejects.toThrow(
    'is no calibration (not an object); make it anew',
  );
  await writeFile(path, text.replace('"processor"', '"stopwatch"'));
  await expect(readCalibration(path, model)).rejects.toThrow('is no calibration (seconds_by)');
  await expect(writeCalibration(join(path, 'below', 'x.json'), calibration)).rejects.toThrow(
    'cannot be written; name another place with --calibration-file',
  );
});
