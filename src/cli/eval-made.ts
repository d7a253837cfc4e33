/** Evaluations whose documents are made, to any length. */
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { rulerRequests } from '../eval/ruler/requests.js';
import { readSources } from '../eval/ruler/sources.js';
import { TASK_NAMES, type TaskName } from '../eval/ruler/tasks.js';
import { MOST_VALUES, questionRequests } from '../eval/several-questions.js';
import { packageRoot } from '../local/layout.js';
import { ConfigError } from '../platform/errors.js';
import { evaluateCounted, namesOf, runOptions, type Count } from './eval-options.js';
import type { RunFlags } from './eval-run.js';
import { wholeNumber } from './numbers.js';

interface MadeFlags extends RunFlags {
  tokens: number[];
  documents: number[];
  seed: number;
  essay: string;
}

interface RulerFlags extends MadeFlags {
  tasks: TaskName[];
  squad?: string;
  hotpot?: string;
}

const numbers = (text: string): number[] => text.split(',').map(wholeNumber);

/** `longhaul eval ruler` */
export function rulerCommand(): Command {
  const command = new Command('ruler')
    .description(
      "RULER's tasks as one batch per method and length, over the same documents; run again, it goes on",
    )
    .option('--tasks <names>', TASK_NAMES.join(', '), namesOf(TASK_NAMES), TASK_NAMES)
    .option('--squad <file>', "questions of qa_1 in SQuAD's layout (default: a small set of our own)")
    .option('--hotpot <file>', "questions of qa_2 in HotpotQA's layout (default: likewise)");
  return madeOptions(runOptions(command)).action(async (flags: RulerFlags, own: Command) => {
    const sources = await readSources(flags.essay, flags);
    const plan = { tasks: flags.tasks, lengths: lengthsOf(flags), seed: flags.seed };
    const asked = (count: Count) => rulerRequests(plan, sources, count);
    await evaluateCounted(flags, own, asked, { about: { plan }, seconds: 'prefill' });
  });
}

/** `longhaul eval questions` */
export function questionsCommand(): Command {
  const command = new Command('questions')
    .description(
      'several questions on one document: which of them its anchor should carry; run again, it goes on',
    )
    .option('--counts <n,...>', 'questions at once, on the same documents', numbers, [1, 4, 16])
    .option('--values <n>', 'numbers that each question asks for', wholeNumber, 1);
  const methods = 'full,apb:query=all,apb:query=one,apb:query=none';
  return madeOptions(runOptions(command, methods)).action(async (flags: QuestionFlags, own: Command) => {
    const sources = await readSources(flags.essay);
    const { counts, values } = flags;
    if (Math.min(...counts, values) < 1 || Math.max(...counts) * values > MOST_VALUES) {
      throw new ConfigError(
        `--counts ${counts.join()} with --values ${values}: give whole numbers from 1, and at most ${MOST_VALUES} values in a document`,
      );
    }
    const plan = { counts, values, lengths: lengthsOf(flags), seed: flags.seed };
    const asked = (count: Count) => questionRequests(plan, sources, count);
    await evaluateCounted(flags, own, asked, { about: { plan }, seconds: 'prefill and decode' });
  });
}

interface QuestionFlags extends MadeFlags {
  counts: number[];
  values: number;
}

function madeOptions(command: Command): Command {
  return command
    .option('--tokens <n,...>', "lengths of documents by the model's tokenizer", numbers, [4096])
    .option(
      '--documents <n,...>',
      'of each length and task: one number, or one for each length',
      numbers,
      [8],
    )
    .option('--seed <n>', 'other documents', wholeNumber, 1)
    .addOption(
      new Option('--essay <file>', 'prose for filler').default(
        join(packageRoot, 'demo/texts/moby-dick.txt'),
        'Moby-Dick',
      ),
    );
}

function lengthsOf({ tokens, documents }: MadeFlags): { length: number; documents: number }[] {
  if (documents.length > 1 && documents.length !== tokens.length) {
    throw new ConfigError(
      `--documents has ${documents.length} numbers and --tokens ${tokens.length}; give one, or one for each length`,
    );
  }
  return tokens.map((length, i) => ({ length, documents: documents[i] ?? documents[0] ?? 0 }));
}
