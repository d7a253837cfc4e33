/** What every evaluation takes, and how it is run. */
import { join } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import type { AskedRequest } from '../eval/requests.js';
import { parseVariants } from '../eval/variants.js';
import { packageRoot } from '../local/layout.js';
import type { Config } from '../platform/config.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { configOf } from './context.js';
import { runEvaluation, type Evaluation, type RunFlags } from './eval-run.js';
import { configuredSystem, ownSystem } from './eval-system.js';
import { wholeNumber } from './numbers.js';

export function runOptions(command: Command, methods = 'full,apb'): Command {
  return command
    .requiredOption('--out <dir>', 'requests, results and report.md, report.svg, report.json')
    .option(
      '--methods <names>',
      'all, or like full,ring:layout=contiguous,star:anchor=256,apb,apb:query=none,apb:passing=0,apb:select=random,apb:anchor=50%,apb:blocks=balanced,apb:ranks=8',
      parseVariants,
      parseVariants(methods),
    )
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option('--model-dir <dir>', "model (default: the configuration's, with --local the demo model)")
    .option('--local', 'in a system of its own below --out, with a cohort of each number of ranks in turn')
    .option('--json', 'print report.json instead of the table');
}

function evalConfig({ local, modelDir }: RunFlags, command: Command): Config {
  const config = configOf(command);
  return local === true && modelDir === undefined
    ? { ...config, modelDir: join(packageRoot, 'models/demo') }
    : config;
}

export function evaluate(flags: RunFlags, evaluation: Evaluation, command: Command): Promise<void> {
  const config = evalConfig(flags, command);
  const serve = flags.local === true ? ownSystem(flags.out, config) : configuredSystem(config);
  return runEvaluation(flags, evaluation, config, serve);
}

/** Reads names with commas between them. */
export function namesOf<Name extends string>(known: readonly Name[]): (text: string) => Name[] {
  return (text) =>
    text.split(',').map((name) => {
      const found = known.find((each) => each === name);
      if (!found) throw new InvalidArgumentError(`'${name}' is none of ${known.join(', ')}`);
      return found;
    });
}

export type Count = (text: string) => Promise<number>;

/** With the loaded model's tokenizer, by which documents are made or cut to a length. */
export async function evaluateCounted(
  flags: RunFlags,
  command: Command,
  asked: (count: Count) => AsyncGenerator<AskedRequest>,
  rest: Omit<Evaluation, 'asked'>,
): Promise<void> {
  const tokenizer = await loadTokenizer(evalConfig(flags, command).modelDir);
  try {
    const count: Count = async (text) => (await tokenizer.encodeDocument(text)).length;
    await evaluate(flags, { asked: asked(count), ...rest }, command);
  } finally {
    await tokenizer.close();
  }
}
