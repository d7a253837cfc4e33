import { Command } from 'commander';
import { downloadOverlay } from '../batch/overlay.js';
import { downloadResults } from '../batch/results.js';
import type { Success } from '../contracts/outcome.js';
import { printJson, printLine, withStore } from './context.js';

interface Flags {
  out?: string;
  overlay?: true | string[];
  json?: boolean;
}

interface Downloaded {
  output: string;
  error: string;
  counts: Success['counts'];
  usage: Success['usage'];
  work?: Success['work'];
  /** What was laid over the batch. */
  retries?: string[];
}

/** `longhaul results BATCH` */
export function resultsCommand(): Command {
  return new Command('results')
    .description('download output.jsonl and error.jsonl of a finished batch, checked against their sha256')
    .argument('<batch>', 'id of the batch')
    .option(
      '--out <dir>',
      'folder to write to (default: results/<batch>, with --overlay results/<batch>-overlay)',
    )
    .option(
      '--overlay [retries...]',
      'with the answers of these retries (default: all) in the places that have none',
    )
    .option('--json', 'print paths, counts, usage and work as JSON')
    .addHelpText(
      'after',
      '\nExit codes: 0 downloaded, 1 error, 2 the batch or a retry is not finished yet, 64 wrong usage',
    )
    .action(async (id: string, flags: Flags, command: Command) => {
      const { output, error, ...facts } = await withStore(
        command,
        async ({ store, signal }): Promise<Downloaded> => {
          if (flags.overlay === undefined) {
            const { success, ...files } = await downloadResults(
              { store },
              id,
              flags.out ?? `results/${id}`,
              signal,
            );
            return { ...files, counts: success.counts, usage: success.usage, work: success.work };
          }
          const named = flags.overlay === true ? [] : flags.overlay;
          const directory = flags.out ?? `results/${id}-overlay`;
          const { overlay, ...files } = await downloadOverlay({ store }, id, directory, named, signal);
          return { ...files, counts: overlay.counts, usage: overlay.usage, retries: overlay.retries };
        },
      );
      if (flags.json === true) {
        printJson({ batch: id, output, error, ...facts });
        return;
      }
      const { counts, retries } = facts;
      if (retries !== undefined)
        printLine(`${id} with ${retries.length === 0 ? 'no retries' : retries.join(', ')}`);
      printLine(`${output}  ${counts.answered} answered`);
      printLine(`${error}  ${counts.total - counts.answered} not answered`);
    });
}
