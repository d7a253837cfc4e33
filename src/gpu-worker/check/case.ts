import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { LonghaulError } from '../../platform/errors.js';
import { readSafetensors, type Tensor } from './safetensors.js';

const tokens = z.array(z.number().int().min(0));

const caseSchema = z.object({
  model: z.string(),
  method: z.enum(['full', 'ring', 'ulysses', 'star', 'apb']),
  ring_layout: z.enum(['contiguous', 'zigzag']).optional(),
  ranks: z.number().int().min(1),
  anchor_len: z.number().int().nullable(),
  passing_len: z.number().int(),
  blocks: z.array(z.number().int()).nullable(),
  query_position: z.number().int(),
  /** Absent: the anchor carries the query. */
  anchor_query: z.literal('none').optional(),
  select: z.enum(['heads', 'spava', 'random']),
  select_seed: z.number().int(),
  doc: tokens,
  query: tokens,
  max_new_tokens: z.number().int(),
  eos: tokens,
});

const expectedSchema = z.object({
  blocks: z.array(z.tuple([z.number(), z.number()])),
  anchor: tokens,
  anchor_doc_tokens: z.number().int(),
  tokens,
  finish: z.enum(['length', 'eos']),
  logit_std: z.number(),
  margins: z.array(z.number()),
  bf16: z.object({ logit_err: z.number(), overlap_mean: z.number() }),
});

/** A golden case: what to run, and what a float64 model of the same semantics came to. */
export interface Case {
  name: string;
  modelDir: string;
  input: z.infer<typeof caseSchema>;
  expected: z.infer<typeof expectedSchema>;
  tensors: Map<string, Tensor>;
}

/** Case folders among `dirs`: each is one, or holds some. */
export function findCases(dirs: string[]): string[] {
  return dirs.flatMap((dir) => {
    const isCase = (path: string) => existsSync(join(path, 'case.json'));
    if (isCase(dir)) return [resolve(dir)];
    const found = existsSync(dir)
      ? readdirSync(dir)
          .sort()
          .map((name) => resolve(dir, name))
          .filter(isCase)
      : [];
    if (found.length === 0) {
      throw new LonghaulError(
        'CASE',
        `${dir} holds no case; give a folder with case.json, or a folder of such folders`,
      );
    }
    return found;
  });
}

export function readCase(dir: string): Case {
  const read = <T>(file: string, schema: z.ZodType<T>): T => {
    const path = join(dir, file);
    try {
      return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    } catch (cause) {
      const why = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
      throw new LonghaulError('CASE', `${path} cannot be used: ${why}`, { cause });
    }
  };
  const input = read('case.json', caseSchema);
  return {
    name: basename(dir),
    modelDir: resolve(dir, input.model),
    input,
    expected: read('expected.json', expectedSchema),
    tensors: readSafetensors(join(dir, 'expected.safetensors')),
  };
}
