/** The calibration of the configured model on this machine: where it is kept, and how it comes to be. */
import { availableParallelism, cpus } from 'node:os';
import { calibrate } from '../gpu-worker/calibrate/calibrate.js';
import { capabilities } from '../gpu-worker/engine/engine.js';
import {
  calibrationPath,
  readCalibration,
  writeCalibration,
  type Calibration,
  type Subject,
} from '../plan/calibration.js';
import type { PlanFacts } from '../plan/choose.js';
import { fitSpeeds } from '../plan/fit.js';
import { readModelShape } from '../plan/model-shape.js';
import type { Config } from '../platform/config.js';
import { modelDigests } from '../text/model-digests.js';
import { readModelLimits } from '../text/model-limits.js';
import { readModelPrompt } from '../text/model-prompt.js';

export interface Kept {
  path: string;
  calibration: Calibration;
}

/** Undefined: there is none yet. With `calibrationFile`, of whatever machine it is. */
export async function keptCalibration(config: Config, signal: AbortSignal): Promise<Kept | undefined> {
  const { model } = await modelDigests(config.modelDir, config.headsFile, { signal });
  const path = config.calibrationFile ?? calibrationPath(subjectOf(config, model));
  const calibration = await readCalibration(path, model);
  return calibration && { path, calibration };
}

/** Measures, for about a minute, and keeps what came out. */
export async function calibrateNow(
  config: Config,
  signal: AbortSignal,
  onStep: (step: string) => void,
): Promise<Kept> {
  const { modelDir, headsFile, calibrationFile } = config;
  const [{ model }, shape, prompt, limits] = await Promise.all([
    modelDigests(modelDir, headsFile, { signal }),
    readModelShape(modelDir),
    readModelPrompt(modelDir),
    readModelLimits(modelDir),
  ]);
  const subject = subjectOf(config, model);
  const { model: _model, machine: _machine, ...where } = subject;
  const measured = await calibrate({
    ...where,
    modelDir,
    shape,
    fractions: prompt.defaults,
    longest: limits.maxPositions,
    processors: availableParallelism(),
    signal,
    onStep,
  });
  const calibration: Calibration = { format: 'longhaul-calibration/1', ...subject, ...measured };
  const path = calibrationFile ?? calibrationPath(subject);
  await writeCalibration(path, calibration);
  return { path, calibration };
}

/** What the planner reckons with. */
export async function planFacts({ modelDir }: Config, { calibration }: Kept): Promise<PlanFacts> {
  const [shape, { defaults }] = await Promise.all([readModelShape(modelDir), readModelPrompt(modelDir)]);
  return {
    shape,
    speeds: fitSpeeds(shape, calibration),
    places: calibration.places ?? Infinity,
    fractions: defaults,
  };
}

/** `model`: its digest. */
function subjectOf(config: Config, model: string): Subject {
  const { threads, cpuPrecision, cudaLibrary, cublasLt, gpu } = config;
  const cuda = config.backend === 'cpu' ? undefined : capabilities({ cudaLibrary, cublasLt, gpu }).cuda;
  const backend = config.backend === 'auto' ? (cuda?.available === true ? 'cuda' : 'cpu') : config.backend;
  const processor = cpus()[0]?.model.trim() ?? 'an unnamed processor';
  const graphics = backend === 'cuda' ? `, ${cuda?.description ?? ''}` : '';
  return {
    model,
    machine: `${processor}, ${availableParallelism()} processors${graphics}`,
    backend,
    threads,
    precision: cpuPrecision,
  };
}
