import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { LonghaulError } from '../platform/errors.js';

/** Files that tell other processes about a local stack. All may hold secrets or pids: 0600, and replaced whole. */
export function writeJson(path: string, value: unknown): void {
  const temporary = `${path}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, JSON.stringify(value, undefined, 2) + '\n', { mode: 0o600 });
  renameSync(temporary, path);
}

/** Undefined: there is none. */
export function readJson<T>(path: string, schema: z.ZodType<T>): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new LonghaulError(
      'LOCAL_STATE',
      `${path} is not what longhaul wrote there; run \`longhaul local down\`, then remove it.`,
      {
        cause,
      },
    );
  }
}

const identity = z.object({ pid: z.number().int().positive(), started: z.string() });

export const stackState = z.object({
  supervisor: identity,
  /** ISO time */
  since: z.string(),
  groups: z.array(
    z.object({
      name: z.string(),
      phase: z.enum(['waiting', 'running', 'ending', 'backing off', 'stopped']),
      restarts: z.number().int(),
      processes: z.array(
        z.object({
          name: z.string(),
          log: z.string(),
          identity: identity.optional(),
          since: z.string().optional(),
          /** How it ended last, in words. */
          lastExit: z.string().optional(),
        }),
      ),
    }),
  ),
});
export type StackState = z.infer<typeof stackState>;
export type GroupState = StackState['groups'][number];

const processSpec = z.object({
  name: z.string(),
  command: z.string(),
  args: z.array(z.string()),
  /** Added to what the supervisor inherited. */
  environment: z.record(z.string(), z.string()),
});
export type ProcessSpec = z.infer<typeof processSpec>;

export const groupSpec = z.object({
  name: z.string(),
  /** They live and die together: when one ends, all are started anew. */
  processes: z.array(processSpec).min(1),
  /** How long the others get to end by themselves after one has ended. */
  survivorMs: z.number(),
  /** From SIGTERM to SIGKILL at a stop. */
  stopMs: z.number(),
  /** The groups after this one are started when this answers. */
  ready: z
    .discriminatedUnion('kind', [
      z.object({ kind: z.literal('redis'), port: z.number(), password: z.string().optional() }),
      z.object({ kind: z.literal('tcp'), port: z.number() }),
    ])
    .optional(),
});
export type GroupSpec = z.infer<typeof groupSpec>;

export const stackPlan = z.object({
  version: z.literal(1),
  redisPort: z.number(),
  redisPassword: z.string(),
  s3Port: z.number(),
  /** Absent in what an older version wrote. */
  dashboardPort: z.number().optional(),
  s3AccessKeyId: z.string(),
  s3SecretAccessKey: z.string(),
  /** What `local.json` will hold, and what a second `up` is compared with. */
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  groups: z.array(groupSpec),
});
export type StackPlan = z.infer<typeof stackPlan>;
