/** `longhaul plan` on ranks of the demo model that are really timed, over short documents. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { planCommand } from '../../src/cli/plan.js';
import { calibrate, type Calibrated } from '../../src/gpu-worker/calibrate/calibrate.js';
import { writeCalibration } from '../../src/plan/calibration.js';
import { readModelShape } from '../../src/plan/model-shape.js';
import { loadConfig } from '../../src/platform/config.js';
import { modelDigests } from '../../src/text/model-digests.js';
import { tempDir } from '../support/services.js';
import { runCommand } from './run-command.js';

const modelDir = 'models/demo';
let directory: string;
let path: string;
let measured: Calibrated;
const steps: string[] = [];

beforeAll(async () => {
  directory = await tempDir('longhaul-plan-');
  path = join(directory, 'calibration.json');
  const [shape, { model }] = await Promise.all([readModelShape(modelDir), modelDigests(modelDir)]);
  const where = { backend: 'cpu', threads: 1, precision: 'float32' } as const;
  measured = await calibrate({
    ...where,
    modelDir,
    shape,
    fractions: { anchor_per_block: 0.25, passing_per_block: 0.125 },
    longest: 1024,
    processors: 2,
    onStep: (step) => steps.push(step),
  });
  await writeCalibration(path, {
    format: 'longhaul-calibration/1',
    model,
    machine: 'this one',
    ...where,
    ...measured,
  });
});
afterAll(() => rm(directory, { recursive: true }));

const plan = (...args: string[]) => {
  const config = loadConfig({ environment: {}, directory, flags: { modelDir, calibrationFile: path } });
  return runCommand(config, planCommand(), ...args);
};

test('a calibration times one rank and two, each way at two lengths', () => {
  expect(steps).toEqual(['one rank of cpu (' + measured.engine.slice(5), 'two ranks over tcp']);
  expect(measured).toMatchObject({ comm: 'tcp', seconds_by: 'processor', places: 2 });
  const cells = measured.measurements.map(({ way, blocks }) => `${way.method} ${blocks.join('+')}`);
  expect(cells).toEqual([
    'full 1024',
    'full 256',
    ...[512, 128].flatMap((half) => [
      `full ${half}+${half}`,
      `full ${half * 1.25}+${half * 0.75}`,
      `ring ${half}+${half}`,
      `ulysses ${half}+${half}`,
      `apb ${half}+${half}`,
    ]),
  ]);
  const [long = [], short = []] = measured.measurements.map(({ seconds }) => seconds);
  expect((long[0] as number) / (short[0] as number)).toBeGreaterThan(2.5);
});

test('the plan is a table with a mark and a reason; in JSON all that it rests on', async () => {
  const { stdout } = await plan('32768', '--max-ranks', '2');
  // So short a calibration decides nothing: which way it is, plan-choose.test.ts tells.
  expect(stdout).toMatch(/^ {2}way .* exact +seconds +tokens\/s\n/);
  const marked = [...stdout.matchAll(/^> (.+?) {2,}(?:yes)? +\d/gm)].map(([, way]) => way as string);
  expect(marked).toHaveLength(1);
  const [why = ''] = /\n\n(.+)\.\n\nCalibrated/.exec(stdout)?.slice(1) ?? [];
  expect(why).toContain(marked[0]);
  expect(stdout).toMatch(/\n[ >] full on 1 rank +yes +\d/);
  expect(stdout).toContain('Calibrated ');

  const json = JSON.parse((await plan('32768', '--ranks', '2', '--policy', 'exact', '--json')).stdout) as {
    chosen: { method: string; exact: boolean };
    candidates: unknown[];
    calibration: { path: string };
  };
  expect(json.chosen.exact).toBe(true);
  expect(json.candidates).toHaveLength(4);
  expect(json.calibration.path).toBe(path);
  expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ machine: 'this one' }); // it was not made anew
});

test.each([
  [[], 'give the length of a document in tokens, or --calibrate'],
  [['0'], 'must be 1 or more'],
  [['100', '--ranks', '2', '--max-ranks', '4'], "'--ranks <n>' cannot be used with option '--max-ranks <n>'"],
])('plan %j is wrong usage', async (args, message) => {
  await expect(plan(...args)).rejects.toThrow(message);
});
