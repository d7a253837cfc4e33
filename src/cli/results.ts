import { Command } from 'commander';
import { downloadResults } from '../batch/results.js';
import { printJson, printLine, withStore } from './context.js';

/** `longhaul results BATCH` */
export function resultsCommand(): Command {
  return new Command('results')
    .description('download output.jsonl and error.jsonl of a finished batch, checked against their sha256')
    .argument('<batch>', 'id of the batch')
    .option('--out <dir>', 'folder to write to (default: results/<batch>)')
    .option('--json', 'print paths, counts and usage as JSON')
    .addHelpText('after', '\nExit codes: 0 downloaded, 1 error, 2 the batch is not finished yet')
    .action(async (id: string, options: { out?: string; json?: boolean }, command: Command) => {
      const { success, output, error } = await withStore(command, (context) =>
        downloadResults(context, id, options.out ?? `results/${id}`, context.signal),
      );
      const { counts, usage } = success;
      if (options.json === true) printJson({ batch: id, output, error, counts, usage });
      else {
        const unanswered = counts.total - counts.answered;
        printLine(`${output}  ${counts.answered} answered`);
        printLine(`${error}  ${unanswered} not answered`);
      }
    });
}
