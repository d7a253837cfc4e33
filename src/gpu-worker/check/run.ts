import { findCases, readCase } from './case.js';
import { runCohort, type CohortOptions } from './cohort.js';
import { compare, PER_RANK_MEASURES, type Measure } from './compare.js';
import { variantsOf, type ExactWay, type Variant } from './exact-way.js';
import { RankError } from './rank-process.js';

export interface CaseResult {
  name: string;
  /** The backend's own description. */
  backend: string;
  ranks: number;
  seconds: number;
  ok: boolean;
  measures: Measure[];
  /** What the case expects of each rank, where the ranks had another layout than the case's. */
  notCompared: readonly string[];
}

export interface CheckOptions extends Partial<CohortOptions> {
  /** Case folders, or folders of case folders. */
  dirs: string[];
  /** Runs the `full` cases by another exact method, on several numbers of ranks. */
  way?: ExactWay;
  onResult?: (result: CaseResult) => void;
}

const caseTimeoutMs = 300_000;

/**
 * Runs golden cases one after the other, each on one process per rank.
 * @throws LonghaulError CASE for a folder that is no case, CHECK_RANK when a rank process dies.
 */
export async function runCases({ dirs, way, onResult, ...options }: CheckOptions): Promise<CaseResult[]> {
  const cases = findCases(dirs).map(readCase);
  const variants = way === undefined ? cases.map((golden): Variant => ({ golden })) : variantsOf(cases, way);
  const cohort = { backend: 'auto' as const, threads: 1, timeoutMs: caseTimeoutMs, ...options };
  const results: CaseResult[] = [];
  for (const variant of variants) {
    const start = performance.now();
    const { backend, measures } = await runVariant(variant, cohort);
    const result = {
      name: variant.golden.name,
      backend,
      ranks: variant.golden.input.ranks,
      seconds: (performance.now() - start) / 1000,
      ok: measures.every(({ ok }) => ok),
      measures,
      notCompared: way === undefined || variant.refusal !== undefined ? [] : PER_RANK_MEASURES,
    };
    results.push(result);
    onResult?.(result);
  }
  return results;
}

async function runVariant(
  { golden, merged, refusal }: Variant,
  options: CohortOptions,
): Promise<Pick<CaseResult, 'backend' | 'measures'>> {
  try {
    const ranks = await runCohort(golden, options);
    const backend = ranks[0]?.backend ?? '';
    if (refusal !== undefined) return { backend, measures: [refused(refusal, false)] };
    const precision = backend.startsWith('cuda') ? 'bf16' : 'float32';
    return { backend, measures: compare(golden, ranks, { precision, merged }) };
  } catch (error) {
    if (refusal === undefined || !(error instanceof RankError) || error.reason !== refusal) throw error;
    return { backend: options.backend, measures: [refused(refusal, true)] };
  }
}

function refused(code: string, ok: boolean): Measure {
  return { name: `refused with ${code}`, error: ok ? 0 : 1, tolerance: 0, ok };
}

/** A case as text: one line, and one more for each measure. */
export function describeResult(result: CaseResult): string {
  const { name, backend, ranks, seconds, ok, measures, notCompared } = result;
  const head = `${ok ? 'ok  ' : 'FAIL'} ${name}: ${ranks} rank${ranks === 1 ? '' : 's'}, ${backend}, ${seconds.toFixed(1)} s`;
  const lines = measures.map((m) => {
    const limit = m.tolerance === null ? 'reported only' : `may be ${number(m.tolerance)}`;
    return `     ${m.ok ? ' ' : '!'} ${m.name.padEnd(28)} ${number(m.error).padStart(9)}   ${limit}`;
  });
  if (notCompared.length > 0) {
    lines.push(
      `       not compared, another layout has other values: ${notCompared.join(', ')} of each rank`,
    );
  }
  return [head, ...lines].join('\n');
}

const number = (value: number): string =>
  Number.isInteger(value) || !Number.isFinite(value) ? String(value) : value.toExponential(2);
