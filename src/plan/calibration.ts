/** What was measured of a model on a machine, and the file that keeps it. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { digest } from '../contracts/manifest.js';
import { BLOCKS, METHODS, RING_LAYOUTS } from '../contracts/request.js';
import { ConfigError } from '../platform/errors.js';

/** What speeds belong to: another model or another machine has others. */
const subject = z.strictObject({
  /** Of config.json and the weights. */
  model: digest,
  /** "AMD EPYC, 2 processors", with the GPU where there is one. */
  machine: z.string(),
  backend: z.enum(['cpu', 'cuda']),
  /** Of each rank. */
  threads: z.int().min(1),
  precision: z.enum(['float32', 'bf16']),
});
export type Subject = z.infer<typeof subject>;

const measurement = z.strictObject({
  way: z.strictObject({
    method: z.enum(METHODS),
    ranks: z.int().min(1),
    ring_layout: z.enum(RING_LAYOUTS).nullable(),
    blocks: z.enum(BLOCKS),
    anchor: z.int().nullable(),
    passing: z.int(),
  }),
  /** Tokens of each rank. */
  blocks: z.array(z.int().min(0)).min(1),
  /** Of each rank, the least of several runs. */
  seconds: z.array(z.number().positive()).min(1),
});

const calibration = z.strictObject({
  format: z.literal('longhaul-calibration/1'),
  ...subject.shape,
  /** As the engine describes itself. */
  engine: z.string(),
  /** What connects the ranks that were measured. */
  comm: z.string(),
  /** Seconds are of the clock, which passes for all ranks alike, or those that a rank had a processor, by its threads. */
  seconds_by: z.enum(['clock', 'processor']),
  /** How many ranks can compute at the same time; null: each has a GPU of its own. */
  places: z.number().positive().nullable(),
  measured_at: z.iso.datetime(),
  measurements: z.array(measurement).min(2),
  /** As the ranks of a cohort measure them, the least of several times. */
  rates: z.strictObject({ rowSeconds: z.number().positive(), pairSeconds: z.number().positive() }),
});
export type Calibration = z.infer<typeof calibration>;

/** Below the user's cache directory, so that a model's directory may be shared and read-only. */
export function calibrationPath(
  { model, ...where }: Subject,
  folder = join(homedir(), '.cache', 'longhaul', 'calibrations'),
): string {
  const { machine, backend, threads, precision } = where;
  const key = createHash('sha256').update(JSON.stringify([machine, backend, threads, precision]));
  return join(folder, `${model.slice(0, 16)}-${key.digest('hex').slice(0, 16)}.json`);
}

/**
 * Undefined: there is no such file.
 * @throws ConfigError when it holds no calibration, or one of another model.
 */
export async function readCalibration(path: string, model: string): Promise<Calibration | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConfigError(`${path} cannot be read; correct its rights`, { cause });
  }
  const parsed = calibration.safeParse(parseJson(text));
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? '';
    throw new ConfigError(
      `${path} is no calibration (${field === '' ? 'not an object' : field}); make it anew with longhaul plan --calibrate`,
    );
  }
  if (parsed.data.model !== model) {
    throw new ConfigError(
      `${path} is of model ${parsed.data.model.slice(0, 12)}, and this one is ${model.slice(0, 12)}; make one with longhaul plan --calibrate`,
    );
  }
  return parsed.data;
}

/** @throws ConfigError when it cannot be written. */
export async function writeCalibration(path: string, value: Calibration): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, `${JSON.stringify(value, undefined, 2)}\n`);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new ConfigError(`${path} cannot be written; name another place with --calibration-file`, {
      cause,
    });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
