import { join } from 'node:path';
import { Command, Option, InvalidArgumentError } from 'commander';
import { readOwnFile } from '../eval/own-file.js';
import { rulerRequests } from '../eval/ruler/requests.js';
import { readSources } from '../eval/ruler/sources.js';
import { TASK_NAMES, type TaskName } from '../eval/ruler/tasks.js';
import { MEASURES, type Measure } from '../eval/scoring.js';
import { parseVariants } from '../eval/variants.js';
import { packageRoot } from '../local/layout.js';
import { ConfigError } from '../platform/errors.js';
import { loadTokenizer } from '../text/tokenizer.js';
import type { Config } from '../platform/config.js';
import { configOf } from './context.js';
import { runEvaluation, type Evaluation, type RunFlags } from './eval-run.js';
import { configuredSystem, ownSystem } from './eval-system.js';
import { wholeNumber } from './numbers.js';

interface RulerFlags extends RunFlags {
  tasks: TaskName[];
  tokens: number[];
  documents: number[];
  seed: number;
  essay: string;
  squad?: string;
  hotpot?: string;
}

const numbers = (text: string): number[] => text.split(',').map(wholeNumber);

const tasks = (text: string): TaskName[] =>
  text.split(',').map((name) => {
    const known = TASK_NAMES.find((task) => task === name);
    if (!known) throw new InvalidArgumentError(`'${name}' is none of ${TASK_NAMES.join(', ')}`);
    return known;
  });

/** `longhaul eval ruler`, `longhaul eval file` */
export function evalCommand(): Command {
  const evaluation = new Command('eval').description('is the answer still right, method against method');
  runOptions(
    evaluation
      .command('ruler')
      .description("RULER's tasks as one batch per method, over the same documents; run again, it goes on"),
  )
    .option('--tasks <names>', TASK_NAMES.join(', '), tasks, TASK_NAMES)
    .option('--tokens <n,...>', "lengths of documents by the model's tokenizer", numbers, [4096])
    .option(
      '--documents <n,...>',
      'of each task and length: one number, or one for each length',
      numbers,
      [8],
    )
    .option('--seed <n>', 'other documents', wholeNumber, 1)
    .option('--squad <file>', "questions of qa_1 in SQuAD's layout (default: a small set of our own)")
    .option('--hotpot <file>', "questions of qa_2 in HotpotQA's layout (default: likewise)")
    .addOption(
      new Option('--essay <file>', 'prose for filler').default(
        join(packageRoot, 'demo/texts/moby-dick.txt'),
        'Moby-Dick',
      ),
    )
    .action(async (flags: RulerFlags, command: Command) => {
      await runRuler(flags, command);
    });
  runOptions(
    evaluation
      .command('file')
      .description('your own questions with expected answers, as one batch per method; run again, it goes on')
      .argument('<file>', 'JSON lines: custom_id, document, question, expected, ...'),
  )
    .addOption(
      new Option('--measure <name>', 'of lines that name none').choices(MEASURES).default('substring'),
    )
    .addHelpText(
      'after',
      `
A line: {"custom_id": "a", "document": {"path": "a.txt"}, "question": "Who?", "expected": ["Ann", "Anne"]}
and where wanted "measure", "max_tokens", and "task", which names its row of the report.
Measures:
  substring  1 when the answer contains one of the expected, without regard to case
  all        the share of the expected that it contains
  exact      1 when it is one of them, without regard to case, punctuation and articles
  f1         overlap of its words with the best of them`,
    )
    .action(async (file: string, flags: RunFlags & { measure: Measure }, command: Command) => {
      const asked = await readOwnFile(file, flags.measure);
      await run(flags, { asked, about: { file }, seconds: 'prefill' }, command);
    });
  return evaluation;
}

/** What every evaluation takes. */
function runOptions(command: Command): Command {
  return command
    .requiredOption('--out <dir>', 'requests, results and report.md, report.svg, report.json')
    .option(
      '--methods <names>',
      'all, or like full,ring:layout=contiguous,star:anchor=256,apb,apb:query=none,apb:passing=0,apb:select=random,apb:anchor=50%,apb:blocks=balanced,apb:ranks=8',
      parseVariants,
      parseVariants('full,apb'),
    )
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option('--model-dir <dir>', "model (default: the configuration's, with --local the demo model)")
    .option('--local', 'in a system of its own below --out, with a cohort of each number of ranks in turn')
    .option('--json', 'print report.json instead of the table');
}

function configOfEval({ local, modelDir }: RunFlags, command: Command): Config {
  const config = configOf(command);
  return local === true && modelDir === undefined
    ? { ...config, modelDir: join(packageRoot, 'models/demo') }
    : config;
}

function run(flags: RunFlags, evaluation: Evaluation, command: Command): Promise<void> {
  const config = configOfEval(flags, command);
  const serve = flags.local === true ? ownSystem(flags.out, config) : configuredSystem(config);
  return runEvaluation(flags, evaluation, config, serve);
}

async function runRuler(flags: RulerFlags, command: Command): Promise<void> {
  const { documents, seed } = flags;
  if (documents.length > 1 && documents.length !== flags.tokens.length) {
    throw new ConfigError(
      `--documents has ${documents.length} numbers and --tokens ${flags.tokens.length}; give one, or one for each length`,
    );
  }
  const lengths = flags.tokens.map((length, i) => ({ length, documents: documents[i] ?? documents[0] ?? 0 }));
  const sources = await readSources(flags.essay, flags);
  const tokenizer = await loadTokenizer(configOfEval(flags, command).modelDir);
  const plan = { tasks: flags.tasks, lengths, seed };
  const count = async (text: string) => (await tokenizer.encodeDocument(text)).length;
  try {
    const asked = rulerRequests(plan, sources, count);
    await run(flags, { asked, about: { plan }, seconds: 'prefill' }, command);
  } finally {
    await tokenizer.close();
  }
}
