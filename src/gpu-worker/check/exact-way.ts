/** The golden cases of method `full`, run by another exact method: same answers, other layouts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LonghaulError } from '../../platform/errors.js';
import type { RingLayout } from '../engine/engine.js';
import type { Case } from './case.js';

export interface ExactWay {
  method: 'ring' | 'ulysses';
  ringLayout?: RingLayout;
}

export interface Variant {
  golden: Case;
  /** The ranks have another layout than the case's. */
  merged?: boolean;
  /** The engine's code when it must refuse this number of ranks. */
  refusal?: string;
}

/** Beside the case's own. */
const RANKS = [1, 2, 3, 4];

/** @throws LonghaulError CASE when no case is of method `full`. */
export function variantsOf(cases: Case[], { method, ringLayout }: ExactWay): Variant[] {
  const exact = cases.filter(({ input }) => input.method === 'full');
  if (exact.length === 0) {
    const found = cases.map(({ name, input }) => `${name} (${input.method})`).join(', ');
    throw new LonghaulError(
      'CASE',
      `--method ${method} runs cases of method full, and there is none among ${found}; give a folder with some`,
    );
  }
  return exact.flatMap((golden) => {
    const heads = queryHeads(golden.modelDir);
    const counts = [...new Set([golden.input.ranks, ...RANKS])].sort((a, b) => a - b);
    return counts.map((ranks) => ({
      golden: {
        ...golden,
        name: `${golden.name} by ${[method, ringLayout].filter(Boolean).join(' ')}`,
        input: { ...golden.input, method, ranks, ring_layout: ringLayout, blocks: null },
      },
      merged: true,
      refusal: method === 'ulysses' && heads % ranks !== 0 ? 'ENGINE_UNSUPPORTED' : undefined,
    }));
  });
}

const modelConfig = z.looseObject({ num_attention_heads: z.int().min(1) });

function queryHeads(modelDir: string): number {
  return modelConfig.parse(JSON.parse(readFileSync(join(modelDir, 'config.json'), 'utf8')))
    .num_attention_heads;
}
