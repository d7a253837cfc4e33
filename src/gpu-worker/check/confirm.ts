/** Repeats recorded documents on the CPU engine and compares its tokens with those PyTorch gave. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { LonghaulError } from '../../platform/errors.js';
import { capabilities, type BackendName } from '../engine/engine.js';
import { readRecordedDocuments, type RecordedAnswer, type RecordedDocument } from './confirm-file.js';
import { ConfirmRanks, type ConfirmRanksOptions } from './confirm-ranks.js';

/**
 * Two logits this near may change places by the order of float32 sums, so an answer that differs is excused up to
 * it. The file records the least gap of an answer, which is at most that of its first differing token.
 */
const nearTie = 0.05;
const timeoutMs = 3_600_000;

export interface ConfirmOptions {
  file: string;
  modelDir: string;
  /** Empty or unset: all. */
  tasks?: string[];
  lengths?: number[];
  methods?: string[];
  /** Of all ranks together, at least one each; as many as the machine has unless given. */
  threads?: number;
  backend?: BackendName;
  signal?: AbortSignal;
  onSpawn?: ConfirmRanksOptions['onSpawn'];
  onCell?: (result: CellResult) => void;
  /** After each document, and once before the first. */
  onProgress?: (progress: CellProgress) => void;
}

interface CellKey {
  task: string;
  tokens: number;
  /** As the file names it: `apb8`. */
  method: string;
  ranks: number;
}

export interface CellProgress extends CellKey {
  done: number;
  total: number;
}

export interface Difference {
  line: number;
  engine: number[];
  pytorch: number[];
  /** Index of the first token that differs. */
  at: number;
  /** PyTorch's least gap of its two best logits in this answer. */
  margin: number;
  excused: boolean;
}

export interface CellResult extends CellKey {
  backend: string;
  documents: number;
  /** Answers with PyTorch's tokens. */
  same: number;
  /** Answers with the expected tokens, and how many PyTorch had. */
  right: number;
  rightPytorch: number;
  seconds: number;
  differences: Difference[];
  /** The largest gap that excuses a difference. */
  tie: number;
  /** No difference but near-ties. */
  ok: boolean;
}

interface Cell extends CellKey {
  entries: { recorded: RecordedDocument; answer: RecordedAnswer }[];
}

/**
 * @throws LonghaulError CONFIRM_FILE or CONFIRM_MODEL for what cannot be read, CONFIRM_EMPTY when nothing was chosen,
 * CHECK_RANK when a rank process fails.
 */
export async function confirmAnswers(options: ConfirmOptions): Promise<CellResult[]> {
  const documents = readRecordedDocuments(options.file);
  const cells = chooseCells(documents, options);
  const eos = readEos(options.modelDir);
  const threads = options.threads ?? capabilities().threads;
  const cohorts = new Map<number, ConfirmRanks>(); // by number of ranks
  const results: CellResult[] = [];
  try {
    for (const cell of cells) {
      let cohort = cohorts.get(cell.ranks);
      cohort ??= await ConfirmRanks.start({
        ranks: cell.ranks,
        modelDir: options.modelDir,
        threads: Math.max(1, Math.floor(threads / cell.ranks)),
        timeoutMs,
        ...(options.backend && { backend: options.backend }),
        ...(options.signal && { signal: options.signal }),
        ...(options.onSpawn && { onSpawn: options.onSpawn }),
      });
      cohorts.set(cell.ranks, cohort);
      const result = await runCell(cell, cohort, eos, tieOf(cohort.backend, documents), options.onProgress);
      results.push(result);
      options.onCell?.(result);
    }
    return results;
  } finally {
    await Promise.all([...cohorts.values()].map((cohort) => cohort.dispose()));
  }
}

async function runCell(
  { entries, ...key }: Cell,
  cohort: ConfirmRanks,
  eos: number[],
  tie: number,
  onProgress: ConfirmOptions['onProgress'],
): Promise<CellResult> {
  const start = performance.now();
  const differences: Difference[] = [];
  let [right, rightPytorch] = [0, 0];
  onProgress?.({ ...key, done: 0, total: entries.length });
  for (const [index, { recorded, answer }] of entries.entries()) {
    const { document, query, expected, line } = recorded;
    const { predicted, method, ranks, l_a, l_p, margin } = answer;
    const engine = await cohort.answer({
      layout: {
        method,
        ranks,
        documentTokens: document.length,
        queryTokens: query.length,
        anchorLength: l_a,
        passingLength: l_p,
      },
      document,
      query,
      // An end of text beyond both can make neither of them equal.
      maxNewTokens: Math.max(predicted.length, expected.length),
      eos,
    });
    // PyTorch's answer may have ended at its length, while the engine was given longer.
    const at = predicted.findIndex((token, i) => engine[i] !== token);
    if (at >= 0)
      differences.push({
        line,
        engine,
        pytorch: predicted,
        at,
        margin,
        excused: margin <= tie,
      });
    right += Number(equal(engine, expected));
    rightPytorch += Number(equal(predicted, expected));
    onProgress?.({ ...key, done: index + 1, total: entries.length });
  }
  return {
    ...key,
    backend: cohort.backend,
    documents: entries.length,
    same: entries.length - differences.length,
    right,
    rightPytorch,
    seconds: (performance.now() - start) / 1000,
    differences,
    tie,
    ok: differences.every(({ excused }) => excused),
  };
}

const equal = (a: number[], b: number[]) => a.length === b.length && a.every((token, i) => token === b[i]);

/** Chosen documents by length, method and task, in the order of the file: short ones first. */
function chooseCells(documents: RecordedDocument[], options: ConfirmOptions): Cell[] {
  const chosen = <T>(wanted: T[] | undefined, value: T) => !wanted?.length || wanted.includes(value);
  const cells = new Map<string, Cell>();
  const all = new Set<string>();
  for (const recorded of documents) {
    const { task, document } = recorded;
    for (const answer of recorded.methods) {
      const { name, method, ranks } = answer;
      all.add(`${task} ${document.length} ${method}`);
      if (!chosen(options.tasks, task) || !chosen(options.lengths, document.length)) continue;
      if (!chosen<string>(options.methods, method)) continue;
      const id = JSON.stringify([task, document.length, name, ranks]);
      const cell = cells.get(id) ?? { task, tokens: document.length, method: name, ranks, entries: [] };
      cell.entries.push({ recorded, answer });
      cells.set(id, cell);
    }
  }
  if (cells.size === 0) {
    const held = [...all].join(', ');
    throw new LonghaulError(
      'CONFIRM_EMPTY',
      `no document of ${options.file} matches; choose among its tasks, lengths and methods: ${held}`,
    );
  }
  return [...cells.values()].sort((a, b) => a.tokens - b.tokens || a.ranks - b.ranks); // stable
}

const configSchema = z.object({
  eos_token_id: z.union([z.number().int(), z.array(z.number().int()).min(1)]),
});

function readEos(modelDir: string): number[] {
  const path = join(modelDir, 'config.json');
  try {
    return [configSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).eos_token_id].flat();
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
    throw new LonghaulError('CONFIRM_MODEL', `${path} cannot be used: ${why}; name a model with --model`, {
      cause,
    });
  }
}

/**
 * Up to which gap an answer may differ. bfloat16 moves logits by some tenths: a backend that computes in it may differ
 * where the gap is no larger than the largest at which PyTorch's own bfloat16 changed an answer of this file.
 */
export function tieOf(backend: string, documents: RecordedDocument[]): number {
  if (!backend.startsWith('cuda')) return nearTie;
  const changed = documents
    .flatMap(({ methods }) => methods)
    .filter(({ predicted, predicted_bf16: half }) => half && !equal(predicted, half))
    .map(({ margin }) => margin);
  return Math.max(nearTie, ...changed);
}

/** A cell as text: one line, and more for each document that differs. */
export function describeCell(cell: CellResult): string {
  const { task, tokens, method, ranks, backend, documents, same, right, rightPytorch, seconds, tie, ok } =
    cell;
  const head =
    `${ok ? 'ok  ' : 'FAIL'} ${task}, ${tokens} tokens, ${method} (${ranks} rank${ranks === 1 ? '' : 's'}, ${backend}): ` +
    `${documents} documents, ${same} with PyTorch's tokens, ${right} right (PyTorch ${rightPytorch}), ${seconds.toFixed(1)} s`;
  const lines = cell.differences.map(({ line, engine, pytorch, at, margin, excused }) =>
    [
      `     ${excused ? ' ' : '!'} line ${line} differs from token ${at} on; PyTorch's least margin in this answer is ${margin}` +
        (excused ? `: a near-tie (at most ${tie}), excused` : `: no near-tie (at most ${tie})`),
      `         engine  ${engine.join(' ')}`,
      `         PyTorch ${pytorch.join(' ')}`,
    ].join('\n'),
  );
  return [head, ...lines].join('\n');
}
