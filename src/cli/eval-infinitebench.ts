import { Command } from 'commander';
import { infiniteBenchRequests } from '../eval/infinitebench/requests.js';
import type { InfiniteBenchTask } from '../eval/infinitebench/scores.js';
import { INFINITEBENCH_NAMES } from '../eval/infinitebench/tasks.js';
import { evaluateCounted, namesOf, runOptions } from './eval-options.js';
import type { RunFlags } from './eval-run.js';
import { wholeNumber } from './numbers.js';

interface Flags extends RunFlags {
  tasks?: InfiniteBenchTask[];
  documents?: number;
  tokens?: number;
}

/** `longhaul eval infinitebench` */
export function infiniteBenchCommand(): Command {
  const command = new Command('infinitebench')
    .description(
      "InfiniteBench's files with its scoring, as one batch per method and task; run again, it goes on",
    )
    .argument('<dir>', 'folder with passkey.jsonl, kv_retrieval.jsonl, ...')
    .option(
      '--tasks <names>',
      `${INFINITEBENCH_NAMES.join(', ')} (default: those with a file)`,
      namesOf(INFINITEBENCH_NAMES),
    )
    .option('--documents <n>', 'the first so many of each task (default: all)', wholeNumber)
    .option(
      '--tokens <n>',
      'longer documents lose their middle (default: whole; a document that the model cannot hold is refused)',
      wholeNumber,
    );
  return runOptions(command).action(async (folder: string, flags: Flags, own: Command) => {
    const plan = { folder, tasks: flags.tasks, documents: flags.documents, tokens: flags.tokens };
    await evaluateCounted(flags, own, (count) => infiniteBenchRequests(plan, count), {
      about: { plan },
      seconds: 'prefill',
    });
  });
}
