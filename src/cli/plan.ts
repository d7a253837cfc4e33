import { Command, Option } from 'commander';
import { choosePlan, describeWay, POLICIES, type Plan, type Policy } from '../plan/choose.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { calibrateNow, keptCalibration, planFacts, type Kept } from './calibration.js';
import { configOf, printJson, printLine } from './context.js';
import { wholeFromOne } from './numbers.js';

interface Flags {
  model?: string;
  ranks?: number;
  maxRanks?: number;
  policy: Policy;
  calibrate?: boolean;
  json?: boolean;
}

/** Of a question; a longer one only makes the anchor of a short document longer. */
const queryTokens = 64;

/** `longhaul plan TOKENS` */
export function planCommand(): Command {
  return new Command('plan')
    .description('how a document of so many tokens is best run here: method, ranks, blocks, l_a, l_p')
    .argument('[tokens]', 'length of the document; may be left out with --calibrate', wholeFromOne)
    .addOption(
      new Option('--ranks <n>', "ranks of the cohort (default: the configuration's)")
        .argParser(wholeFromOne)
        .conflicts('maxRanks'),
    )
    .option('--max-ranks <n>', 'choose the number of ranks, too: 1, 2, 4, ... up to this', wholeFromOne)
    .addOption(policyOption().default('balanced'))
    .option('--model <directory>', 'model directory')
    .addOption(new Option('--backend <name>', 'what computes').choices(['cpu', 'cuda', 'auto']))
    .option('--threads <n>', 'compute threads of each rank')
    .addOption(
      new Option('--cpu-precision <name>', "what the CPU's linear layers multiply").choices([
        'float32',
        'bf16',
      ]),
    )
    .option(
      '--calibration-file <path>',
      "where the calibration is kept (default: by model, machine, backend and threads in the user's cache)",
    )
    .option('--calibrate', 'measure anew, even if there is a calibration: half a minute to a minute on a CPU')
    .option('--json', 'print the plan, all candidates and the calibration as JSON')
    .addHelpText(
      'after',
      `
Without a calibration one is made first. It times prefills of two lengths, on one rank and on two, by each method.`,
    )
    .action(run);
}

export function policyOption(more = ''): Option {
  return new Option(
    '--policy <name>',
    more +
      "exact: exact methods alone; balanced: apb as well, with the model's own l_a and l_p; fast: with half of them",
  ).choices(POLICIES);
}

async function run(tokens: number | undefined, flags: Flags, command: Command): Promise<void> {
  if (tokens === undefined && flags.calibrate !== true) {
    command.error('error: give the length of a document in tokens, or --calibrate');
  }
  command.setOptionValue('modelDir', flags.model);
  const config = configOf(command);
  const { signal, dispose } = shutdownSignal();
  try {
    const found = flags.calibrate === true ? undefined : await keptCalibration(config, signal);
    const kept = found ?? (await calibrateNow(config, signal, sayStep));
    if (tokens === undefined) {
      if (flags.json === true) printJson({ path: kept.path, ...kept.calibration });
      else printLine(`${describeCalibration(kept)}\n${kept.path}`);
      return;
    }
    const plan = choosePlan(await planFacts(config, kept), {
      tokens,
      longestQuery: queryTokens,
      ranks: flags.maxRanks === undefined ? [config.ranks] : upTo(flags.maxRanks),
      policy: flags.policy,
    });
    if (flags.json === true) printJson({ tokens, policy: flags.policy, ...plan, calibration: kept });
    else printLine([table(plan, tokens), '', plan.why + '.', '', describeCalibration(kept)].join('\n'));
  } finally {
    dispose();
  }
}

/** 1, 2, 4, ... and the number itself. */
function upTo(most: number): number[] {
  const powers = Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, power) => 2 ** power);
  return [...new Set([...powers, most])];
}

function table({ candidates, chosen }: Plan, tokens: number): string {
  const width = Math.max(...candidates.map((each) => describeWay(each).length));
  return [
    `  ${'way'.padEnd(width)}  exact   seconds  tokens/s`,
    ...candidates.map((each) =>
      [
        each === chosen ? '>' : ' ',
        describeWay(each).padEnd(width + 1),
        (each.exact ? 'yes' : '').padEnd(5),
        each.seconds.toPrecision(3).padStart(9),
        (tokens / each.seconds).toFixed(0).padStart(9),
      ].join(' '),
    ),
  ].join('\n');
}

function describeCalibration({ calibration }: Kept): string {
  const { machine, engine, comm, measured_at, measurements, seconds_by } = calibration;
  const lengths = [...new Set(measurements.map(({ blocks }) => blocks.reduce((a, b) => a + b)))].join(
    ' and ',
  );
  const how = seconds_by === 'clock' ? 'seconds of the clock' : 'processor seconds';
  return `Calibrated ${measured_at.slice(0, 10)} on ${machine}, ${engine}, ${comm}: least ${how} of each rank at ${lengths} tokens.`;
}

function sayStep(step: string): void {
  process.stderr.write(`calibrating: ${step}\n`);
}
