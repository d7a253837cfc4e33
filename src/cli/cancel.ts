import { Command } from 'commander';
import { cancelBatch } from '../batch/cancel.js';
import { printJson, printLine, withBatches } from './context.js';
import { describeCounts } from './progress.js';

/** `longhaul cancel BATCH` */
export function cancelCommand(): Command {
  return new Command('cancel')
    .description('end all requests of a batch that have no answer yet; answers made so far stay')
    .argument('<batch>', 'id of the batch')
    .option('--json', 'print the status as JSON')
    .action(async (id: string, options: { json?: boolean }, command: Command) => {
      const status = await withBatches(command, (context) => cancelBatch(context, id, context.signal));
      if (options.json === true) printJson(status);
      else printLine(`${id} ${describeCounts(status)}`);
    });
}
