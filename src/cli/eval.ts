import { join } from 'node:path';
import { Command, Option, InvalidArgumentError } from 'commander';
import { readOwnFile } from '../eval/own-file.js';
import { rulerRequests } from '../eval/requests.js';
import { readSources } from '../eval/ruler/sources.js';
import { TASK_NAMES, type TaskName } from '../eval/ruler/tasks.js';
import { MEASURES, type Measure } from '../eval/scoring.js';
import { parseVariant } from '../eval/variants.js';
import { packageRoot } from '../local/layout.js';
import { loadTokenizer } from '../text/tokenizer.js';
import { withBatches, type CommandContext } from './context.js';
import { runVariants, type RunFlags } from './eval-run.js';
import { wholeNumber } from './numbers.js';

interface RulerFlags extends RunFlags {
  tasks: TaskName[];
  tokens: number[];
  documents: number;
  seed: number;
  essay: string;
  squad?: string;
  hotpot?: string;
}

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
    .option(
      '--tokens <n,...>',
      "lengths of documents by the model's tokenizer",
      (text: string) => text.split(',').map(wholeNumber),
      [4096],
    )
    .option('--documents <n>', 'of each task and length', wholeNumber, 8)
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
      await withBatches(command, (context) => runRuler(flags, context));
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
      await withBatches(command, (context) => runVariants(flags, asked, { file }, context));
    });
  return evaluation;
}

/** What every evaluation takes. */
function runOptions(command: Command): Command {
  return command
    .requiredOption('--out <dir>', 'requests, results and report.md, report.svg, report.json')
    .option(
      '--methods <names>',
      'like full,apb,apb:passing=0,apb:select=random,apb:blocks=balanced,star:anchor=256,ring:layout=contiguous',
      (text: string) => text.split(',').map(parseVariant),
      ['full', 'apb'].map(parseVariant),
    )
    .option('--ranks <n>', "ranks that share a document (default: the configuration's)", wholeNumber)
    .option('--json', 'print report.json instead of the table');
}

async function runRuler(flags: RulerFlags, context: CommandContext): Promise<void> {
  const { documents, seed } = flags;
  const sources = await readSources(flags.essay, flags);
  const tokenizer = await loadTokenizer(context.config.modelDir);
  const plan = { tasks: flags.tasks, lengths: flags.tokens, documents, seed };
  const count = async (text: string) => (await tokenizer.encodeDocument(text, context.signal)).length;
  try {
    await runVariants(flags, rulerRequests(plan, sources, count), { plan }, context);
  } finally {
    await tokenizer.close();
  }
}
