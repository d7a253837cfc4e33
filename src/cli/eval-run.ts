/** One batch per method and group of requests, and the report of what came back. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { downloadResults } from '../batch/results.js';
import { plot } from '../eval/plot.js';
import { markdown, type Scored, type Seconds } from '../eval/report.js';
import {
  scoreOutput,
  slug,
  writeRequests,
  type Asked,
  type EvalRequest,
  type RequestGroup,
  type Result,
} from '../eval/requests.js';
import type { Variant } from '../eval/variants.js';
import type { Config } from '../platform/config.js';
import { ConfigError, UnsupportedError } from '../platform/errors.js';
import { checkModel, checkOptions } from '../producer/run-options.js';
import { submit } from '../producer/submit.js';
import { modelDigests } from '../text/model-digests.js';
import { readModelLimits } from '../text/model-limits.js';
import { sourcePolicy } from '../text/source-policy.js';
import { printJson, printLine, type CommandContext } from './context.js';
import { follow, watchBatch } from './progress.js';

export interface RunFlags {
  methods: Variant[];
  out: string;
  local?: boolean;
  modelDir?: string;
  json?: boolean;
}

export interface Evaluation {
  asked: Asked;
  /** Kept in report.json, to say what was asked. */
  about: object;
  /** What the report's seconds are. */
  seconds: Seconds;
}

/** Calls `use` with a system that has a cohort of so many ranks, or will have one. */
export type Serve = (ranks: number, use: (context: CommandContext) => Promise<void>) => Promise<void>;

type Sized = Variant & { ranks: number };

/**
 * A batch is named by its content: run again, a batch that has ended is only downloaded, and one that waits is
 * waited for. The report is written after each number of ranks, so that an end in between leaves what is done.
 */
export async function runEvaluation(
  { methods, out, json = false }: RunFlags,
  { asked, about, seconds }: Evaluation,
  config: Config,
  serve: Serve,
): Promise<void> {
  const variants = await possible(methods, config);
  const { groups, requests } = await writeRequests(out, asked);
  const scored: Scored[] = [];
  for (const ranks of new Set(variants.map((variant) => variant.ranks))) {
    await serve(ranks, async (context) => {
      const own = variants.filter((variant) => variant.ranks === ranks);
      scored.push(...(await runBatches(own, groups, requests, out, context)));
    });
    const order = (name: string) => variants.findIndex((variant) => variant.name === name);
    scored.sort((a, b) => order(a.variant) - order(b.variant));
    await writeFile(join(out, 'report.md'), markdown(requests, scored, seconds));
    await writeFile(join(out, 'report.svg'), plot(requests, scored, seconds));
    const all = scored.map(({ results, ...each }) => ({ ...each, results: Object.fromEntries(results) }));
    const report = { ...about, methods: all };
    await writeFile(join(out, 'report.json'), JSON.stringify(report, undefined, 1) + '\n');
    if (scored.length < variants.length) continue;
    if (json) printJson(report);
    else printLine(markdown(requests, scored, seconds));
  }
}

/** Before anything is run. @throws ConfigError or UnsupportedError for what the person named and the model cannot be run by. */
async function possible(variants: readonly Variant[], config: Config): Promise<Sized[]> {
  const [{ queryHeads }, { heads }] = await Promise.all([
    readModelLimits(config.modelDir),
    modelDigests(config.modelDir, config.headsFile),
  ]);
  const named = new Set<string>();
  return variants.flatMap((variant) => {
    const ranks = variant.ranks ?? config.ranks;
    // Of the numbers of ranks in `all` one may be the configuration's.
    const key = `${variant.name.replace(/:ranks=\d+/, '')} ${ranks}`;
    if (variant.optional && named.has(key)) return [];
    named.add(key);
    try {
      const options = { ...variant.options, ranks };
      checkOptions(options);
      checkModel(options, { queryHeads, hasRetainingHeads: heads !== null });
    } catch (error) {
      if (!variant.optional || !(error instanceof ConfigError || error instanceof UnsupportedError))
        throw error;
      process.stderr.write(`${variant.name} is left out: ${error.message}\n`);
      return [];
    }
    return [{ ...variant, ranks }];
  });
}

/**
 * All are submitted before the first is waited for: then the cohort never waits for us. By group, so that after an end
 * in between a plan of fewer lengths finds its batches done.
 */
async function runBatches(
  variants: readonly Sized[],
  groups: readonly RequestGroup[],
  requests: readonly EvalRequest[],
  out: string,
  { config, signal, ...deps }: CommandContext,
): Promise<Scored[]> {
  const submitted: { variant: Sized; group: RequestGroup; id: string }[] = [];
  for (const group of groups) {
    for (const variant of variants) {
      const { id, created } = await submit(deps, {
        file: group.file,
        policy: sourcePolicy(config),
        modelDir: config.modelDir,
        headsFile: config.headsFile,
        options: { ...variant.options, ranks: variant.ranks },
        shares: variant.shares,
        signal,
      });
      const again = created ? '' : ', submitted before';
      process.stderr.write(`${variant.name}, ${group.name}: batch ${id}${again}\n`);
      submitted.push({ variant, group, id });
    }
  }
  const scored: Scored[] = [];
  for (const variant of variants) {
    const results = new Map<string, Result>();
    const own = submitted.filter((each) => each.variant === variant);
    for (const { group, id } of own) {
      process.stderr.write(`${variant.name}, ${group.name}: waiting for ${id}\n`);
      await watchBatch(follow(deps, id, signal), signal);
      const folder = join(out, slug(variant.name), slug(group.name));
      const { output, success } = await downloadResults(deps, id, folder, signal);
      for (const [request, result] of await scoreOutput(output, requests)) results.set(request, result);
      if (success.counts.answered < success.counts.total) process.exitCode = 2;
    }
    const batches = Object.fromEntries(own.map(({ group, id }) => [group.name, id]));
    scored.push({ variant: variant.name, ranks: variant.ranks, batches, results });
  }
  return scored;
}
