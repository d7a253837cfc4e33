import { Command, Option } from 'commander';
import { readOwnFile } from '../eval/own-file.js';
import { MEASURES, type Measure } from '../eval/scoring.js';
import { infiniteBenchCommand } from './eval-infinitebench.js';
import { questionsCommand, rulerCommand } from './eval-made.js';
import { evaluate, runOptions } from './eval-options.js';
import type { RunFlags } from './eval-run.js';

/** `longhaul eval ruler`, `questions`, `file`, `infinitebench` */
export function evalCommand(): Command {
  return new Command('eval')
    .description('is the answer still right, method against method')
    .addCommand(rulerCommand())
    .addCommand(questionsCommand())
    .addCommand(fileCommand())
    .addCommand(infiniteBenchCommand());
}

function fileCommand(): Command {
  const command = new Command('file')
    .description('your own questions with expected answers, as one batch per method; run again, it goes on')
    .argument('<file>', 'JSON lines: custom_id, document, question, expected, ...');
  return runOptions(command)
    .addOption(
      new Option('--measure <name>', 'of lines that name none').choices(MEASURES).default('substring'),
    )
    .addHelpText(
      'after',
      `
A line: {"custom_id": "a", "document": {"path": "a.txt"}, "question": "Who?", "expected": ["Ann", "Anne"]}
and where wanted "measure", "max_tokens", and "task", which names its column of the report.
Measures:
  substring  1 when the answer contains one of the expected, without regard to case
  all        the share of the expected that it contains
  exact      1 when it is one of them, without regard to case, punctuation and articles
  f1         overlap of its words with the best of them`,
    )
    .action(async (file: string, flags: RunFlags & { measure: Measure }, own: Command) => {
      const asked = await readOwnFile(file, flags.measure);
      await evaluate(flags, { asked, about: { file }, seconds: 'prefill' }, own);
    });
}
