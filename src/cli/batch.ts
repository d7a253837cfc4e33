import { Command, InvalidArgumentError } from 'commander';
import { listBatches } from '../batch/list.js';
import { removeBatch } from '../batch/remove.js';
import { lifecycleRules } from '../batch/retention.js';
import type { BatchStatus } from '../contracts/status.js';
import { configOf, printJson, printLine, withBatches } from './context.js';
import { wholeNumber } from './numbers.js';
import { describeCounts } from './progress.js';

/** `longhaul batch list|rm|retention` */
export function batchCommand(): Command {
  const command = new Command('batch').description('batches as a whole: list, remove, keep for how long');
  command
    .command('list')
    .description('list batches, newest first')
    .option('--limit <n>', 'at most this many', count, 20)
    .option('--before <batch>', 'only older ones than this: the last of the page before')
    .option('--all', 'all that S3 has, also those that Redis has dropped')
    .option('--json', 'print JSON')
    .action(
      async (flags: { limit: number; before?: string; all?: boolean; json?: boolean }, command: Command) => {
        const { json, ...options } = flags;
        const batches = await withBatches(command, (context) =>
          listBatches(context, options, context.signal),
        );
        if (json === true) printJson(batches);
        else if (batches.length === 0) printLine('no batches');
        else for (const batch of batches) printLine(describe(batch));
        const last = batches.at(-1);
        if (last !== undefined && batches.length === options.limit) {
          process.stderr.write(`older ones: --before ${last.id}\n`);
        }
      },
    );
  command
    .command('rm')
    .description('remove a finished batch from S3 and Redis; its documents stay, others may share them')
    .argument('<batch>', 'id of the batch')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExit codes: 0 removed, 1 error, 2 the batch is not finished yet, 64 wrong usage')
    .action(async (id: string, flags: { json?: boolean }, command: Command) => {
      const onProgress = (removed: number) => {
        if (process.stderr.isTTY) process.stderr.write(`\robjects removed: ${removed}`);
        else if (removed % 10_000 === 0) process.stderr.write(`objects removed: ${removed}\n`);
      };
      const { objects } = await withBatches(command, (context) =>
        removeBatch(context, id, { onProgress, signal: context.signal }),
      );
      if (process.stderr.isTTY) process.stderr.write('\n');
      if (flags.json === true) printJson({ id, objects });
      else printLine(`removed ${id} (${objects} objects)`);
    });
  command
    .command('retention')
    .description("print the bucket's lifecycle rules, which end old batches and documents")
    .option('--batch-days <n>', 'longer than any batch may run', wholeNumber, 30)
    .option('--document-days <n>', 'at least eight more', wholeNumber, 45)
    .option('--json', 'print JSON: what it does without this, too')
    .addHelpText(
      'after',
      `
To set them (this replaces the rules that the bucket has):
  longhaul batch retention > rules.json
  aws s3api put-bucket-lifecycle-configuration --bucket BUCKET --lifecycle-configuration file://rules.json`,
    )
    .action((flags: { batchDays: number; documentDays: number }, command: Command) => {
      printJson(lifecycleRules(configOf(command), flags));
    });
  return command;
}

function describe(batch: BatchStatus): string {
  const created = new Date(batch.created_at * 1000).toISOString();
  return `${batch.id}  ${created}  ${describeCounts(batch)}  (${batch.input})`;
}

function count(text: string): number {
  const value = wholeNumber(text);
  if (value < 1) throw new InvalidArgumentError('must be at least 1');
  return value;
}
