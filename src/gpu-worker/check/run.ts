import { findCases, readCase } from './case.js';
import { runCohort, type CohortOptions } from './cohort.js';
import { compare, type Measure } from './compare.js';

export interface CaseResult {
  name: string;
  /** The backend's own description. */
  backend: string;
  ranks: number;
  seconds: number;
  ok: boolean;
  measures: Measure[];
}

export interface CheckOptions extends Partial<CohortOptions> {
  /** Case folders, or folders of case folders. */
  dirs: string[];
  onResult?: (result: CaseResult) => void;
}

const caseTimeoutMs = 300_000;

/**
 * Runs golden cases one after the other, each on one process per rank.
 * @throws LonghaulError CASE for a folder that is no case, CHECK_RANK when a rank process dies.
 */
export async function runCases({ dirs, onResult, ...options }: CheckOptions): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const dir of findCases(dirs)) {
    const golden = readCase(dir);
    const start = performance.now();
    const ranks = await runCohort(golden, {
      backend: 'auto',
      threads: 1,
      timeoutMs: caseTimeoutMs,
      ...options,
    });
    const backend = ranks[0]?.backend ?? '';
    const measures = compare(golden, ranks, backend.startsWith('cuda') ? 'bf16' : 'float32');
    const result = {
      name: golden.name,
      backend,
      ranks: ranks.length,
      seconds: (performance.now() - start) / 1000,
      ok: measures.every(({ ok }) => ok),
      measures,
    };
    results.push(result);
    onResult?.(result);
  }
  return results;
}

/** A case as text: one line, and one more for each measure. */
export function describeResult({ name, backend, ranks, seconds, ok, measures }: CaseResult): string {
  const head = `${ok ? 'ok  ' : 'FAIL'} ${name}: ${ranks} rank${ranks === 1 ? '' : 's'}, ${backend}, ${seconds.toFixed(1)} s`;
  const lines = measures.map((m) => {
    const limit = m.tolerance === null ? 'reported only' : `may be ${number(m.tolerance)}`;
    return `     ${m.ok ? ' ' : '!'} ${m.name.padEnd(28)} ${number(m.error).padStart(9)}   ${limit}`;
  });
  return [head, ...lines].join('\n');
}

const number = (value: number): string =>
  Number.isInteger(value) || !Number.isFinite(value) ? String(value) : value.toExponential(2);
