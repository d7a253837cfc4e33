/** What lies on a rank by the layout's choice, so that another layout has other values. */
export const PER_RANK_MEASURES = ['layout', 'selections', 'scores', 'lse'] as const;

/**
 * Errors of a run against its golden case, each beside its tolerance. The tolerances of logits,
 * tokens, selections and LSE are the reference's; float32 also bounds what lies between (scores,
 * hidden states, cache norms), which bfloat16 only reports.
 */
import { planLayout } from '../engine/engine.js';
import type { Case } from './case.js';
import { layoutOf } from './layout.js';
import type { RankResult } from './messages.js';
import type { Tensor } from './safetensors.js';

export interface Measure {
  name: string;
  error: number;
  /** The error may not exceed it; null: reported only. */
  tolerance: number | null;
  ok: boolean;
}

export type Precision = 'float32' | 'bf16';

const float32Tolerance = 2e-3;

export interface CompareOptions {
  precision: Precision;
  /** The ranks had another layout than the case's: what they hold together is compared, not what each has. */
  merged?: boolean;
}

export function compare(
  golden: Case,
  ranks: RankResult[],
  { precision, merged = false }: CompareOptions,
): Measure[] {
  const { expected, tensors } = golden;
  const strict = precision === 'float32';
  const measure = (name: string, error: number, tolerance: number | null): Measure => ({
    name,
    error,
    tolerance,
    ok: tolerance === null ? !Number.isNaN(error) : error <= tolerance,
  });
  const between = strict ? float32Tolerance : null;
  const tensor = (name: string): Tensor => {
    const found = tensors.get(name);
    if (!found) throw new Error(`expected.safetensors of ${golden.name} has no ${name}`);
    return found;
  };
  const parts = (name: string, rank: number) => slices(tensor(name), rank);

  const logits = ranks[0]?.trace.logits ?? new Float32Array();
  const wanted = tensor('logits');
  const vocabulary = wanted.shape[1] ?? 0;
  // bfloat16: both of two close logits may be off, so only a clear choice must be the same.
  const clear = strict ? 0 : 4 * expected.bf16.logit_err * expected.logit_std;

  const perRankMeasures = merged
    ? []
    : [
        measure('layout', layoutDifferences(golden), 0),
        measure(
          'selections',
          1 - mean(selectionOverlaps(golden, ranks)),
          strict ? 0 : Math.max(0, 1 - (expected.bf16.overlap_mean - 0.05)),
        ),
        measure('scores', scoreError(golden, ranks), between),
        // [layers, ranks, L, NQ] beside each rank's own layers
        measure(
          'lse',
          perRank(ranks, (r, i) =>
            parts('query_lse', i).map((want, l) => largest(r.trace.queryLse[l], want)),
          ),
          between,
        ),
      ];
  return [
    ...perRankMeasures,
    measure(
      'logits',
      largest(logits, wanted.data) / expected.logit_std,
      strict ? float32Tolerance : 2 * expected.bf16.logit_err,
    ),
    measure('tokens, fed the golden ones', choices(logits, vocabulary, golden, clear), 0),
    measure('tokens, choosing for itself', Math.max(...ranks.map((r) => decoded(r, golden, clear))), 0),
    measure(
      'merged lse',
      perRank(ranks, (r) =>
        layers(tensor('query_merged_lse')).map((want, l) => largest(r.trace.queryMergedLse[l], want)),
      ),
      between,
    ),
    measure(
      'hidden',
      perRank(ranks, (r) =>
        layers(tensor('query_hidden')).map((want, l) => largest(r.trace.queryHidden[l], want) / rms(want)),
      ),
      between,
    ),
    measure(
      'cache norms',
      merged
        ? Math.max(
            ...wholeNorms(tensor('cache_norms')).map((want, l) =>
              relative(together(ranks.map((r) => r.trace.cacheNorms[l] ?? [NaN, NaN])), want),
            ),
          )
        : perRank(ranks, (r, i) =>
            parts('cache_norms', i).map((want, l) => relative(r.trace.cacheNorms[l], want)),
          ),
      between,
    ),
  ];
}

type Numbers = ArrayLike<number>;

/** Largest absolute difference; infinite when something is missing or not a number. */
function largest(got: Numbers | undefined, want: Numbers): number {
  if (got?.length !== want.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [got[i] as number, want[i] as number];
    const difference = a === b ? 0 : Math.abs(a - b); // equal infinities
    if (Number.isNaN(difference)) return Infinity;
    worst = Math.max(worst, difference);
  }
  return worst;
}

function relative(got: Numbers | undefined, want: Numbers): number {
  const scale = Math.max(...Array.from(want, Math.abs));
  return largest(got, want) / (scale > 0 ? scale : 1);
}

function rms(values: Numbers): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  return Math.sqrt(sum / Math.max(1, values.length)) || 1;
}

const mean = (values: number[]): number => values.reduce((sum, x) => sum + x, 0) / Math.max(1, values.length);

const perRank = (ranks: RankResult[], errors: (rank: RankResult, index: number) => number[]): number =>
  Math.max(...ranks.flatMap(errors));

/** [layers, ...] -> one array per layer. */
function layers({ shape, data }: Tensor): Numbers[] {
  const size = data.length / (shape[0] as number);
  return Array.from({ length: shape[0] as number }, (_, i) => data.subarray(i * size, (i + 1) * size));
}

/** [layers, ranks, ...] -> one array per layer, of one rank. */
function slices({ shape, data }: Tensor, rank: number): Numbers[] {
  const [count, ranks] = shape as [number, number];
  const size = data.length / count / ranks;
  return Array.from({ length: count }, (_, layer) => {
    const at = (layer * ranks + rank) * size;
    return data.subarray(at, at + size);
  });
}

/** Norms [K, V] of the ranks' rows together. */
function together(norms: Numbers[]): number[] {
  return [0, 1].map((part) => Math.sqrt(norms.reduce((sum, norm) => sum + (norm[part] as number) ** 2, 0)));
}

/** cache_norms [layers, ranks, 2] -> by layer, of the whole document. */
function wholeNorms(norms: Tensor): Numbers[] {
  const ranks = Array.from({ length: norms.shape[1] as number }, (_, rank) => slices(norms, rank));
  return layers(norms).map((_, layer) => together(ranks.map((own) => own[layer] as Numbers)));
}

function layoutDifferences({ input, expected }: Case): number {
  const plan = planLayout(layoutOf(input));
  const blocks = plan.blocks.map(({ start, end }) => [start, end]);
  return (
    Number(JSON.stringify(blocks) !== JSON.stringify(expected.blocks)) +
    Number(plan.anchorDocument !== expected.anchor_doc_tokens) +
    Number(plan.anchorLength !== expected.anchor.length)
  );
}

/** Steps whose best logit is not the golden token. */
function choices(logits: Float32Array, vocabulary: number, { expected }: Case, clear: number): number {
  return expected.tokens.filter((token, step) => {
    const row = logits.subarray(step * vocabulary, (step + 1) * vocabulary);
    const best = row.indexOf(row.reduce((a, b) => Math.max(a, b), -Infinity));
    return best !== token && (expected.margins[step] as number) >= clear;
  }).length;
}

/** Tokens that differ, up to the first choice that was not clear: what follows it is another text. */
function decoded({ decoded: { tokens, finish } }: RankResult, { expected }: Case, clear: number): number {
  for (const [step, token] of expected.tokens.entries()) {
    if (tokens[step] === token) continue;
    return (expected.margins[step] as number) >= clear ? expected.tokens.length - step : 0;
  }
  return Number(tokens.length !== expected.tokens.length || finish !== expected.finish);
}

/** The tensors `<kind>.<layer>.<rank>` and each rank's own; an engine may skip the last layer's. */
function* recorded(golden: Case, ranks: RankResult[], kind: 'selected' | 'scores') {
  const last = (golden.tensors.get('cache_norms')?.shape[0] ?? 0) - 1;
  for (const [name, want] of golden.tensors) {
    const [prefix, layer, rank] = name.split('.');
    if (prefix !== kind) continue;
    const entries: [number, Numbers][] = ranks[Number(rank)]?.trace[kind] ?? [];
    const got = entries.find(([index]) => index === Number(layer))?.[1];
    if (got === undefined && Number(layer) === last) continue;
    yield { want, got };
  }
}

/** Share of common indices of each recorded selection, a mean over its KV heads. */
function selectionOverlaps(golden: Case, ranks: RankResult[]): number[] {
  const overlaps: number[] = [];
  for (const { want, got } of recorded(golden, ranks, 'selected')) {
    const [heads, count] = want.shape as [number, number];
    if (heads * count === 0) continue;
    let common = 0;
    for (let h = 0; h < heads; h++) {
      const chosen = new Set(Array.from(got ?? []).slice(h * count, (h + 1) * count));
      common += want.data.subarray(h * count, (h + 1) * count).filter((index) => chosen.has(index)).length;
    }
    overlaps.push(got?.length === want.data.length ? common / (heads * count) : 0);
  }
  return overlaps.length > 0 ? overlaps : [1];
}

/** Relative to the size of the scores. */
function scoreError(golden: Case, ranks: RankResult[]): number {
  let worst = 0;
  for (const { want, got } of recorded(golden, ranks, 'scores')) {
    if (want.data.length > 0) worst = Math.max(worst, largest(got, want.data) / rms(want.data));
  }
  return worst;
}
