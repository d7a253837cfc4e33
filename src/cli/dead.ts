import { Command } from 'commander';
import { deadId, dropDead, findDead, listDead, redriveDead } from '../batch/dead.js';
import type { DeadItem } from '../contracts/dead.js';
import { LonghaulError } from '../platform/errors.js';
import { printJson, printLine, withBatches, withStore } from './context.js';
import { wholeNumber } from './numbers.js';
import { addRetryOptions, printRetried, retryInput, type RetryFlags } from './retry.js';

/** `longhaul dead list|show|redrive|drop` */
export function deadCommand(): Command {
  const command = new Command('dead').description(
    'work items that are not tried again because they ended cohorts',
  );
  command
    .command('list')
    .description('list them')
    .option('--batch <batch>', 'only those of this batch')
    .option('--limit <n>', 'at most this many', wholeNumber, 100)
    .option('--json', 'print JSON')
    .action(async (flags: { batch?: string; limit: number; json?: boolean }, command: Command) => {
      const { batch, limit } = flags;
      const dead = await withStore(command, (context) => listDead(context, { batch, limit }, context.signal));
      if (flags.json === true) printJson(dead);
      else if (dead.length === 0) printLine('no dead items');
      else for (const item of dead) printLine(describe(item));
    });
  command
    .command('show')
    .description('print how an item, or all dead items of a batch, ended cohorts')
    .argument('<name>', 'BATCH/ITEM, or BATCH')
    .option('--json', 'print JSON')
    .action(async (name: string, flags: { json?: boolean }, command: Command) => {
      const dead = await withStore(command, (context) => findDead(context, name, context.signal));
      if (flags.json === true) printJson(dead);
      else for (const item of dead) show(item);
    });
  const redrive = command
    .command('redrive')
    .description('try an item, or all dead items of a batch, again in a new batch: a retry of their requests')
    .argument('<name>', 'BATCH/ITEM, or BATCH');
  addRetryOptions(redrive).action(async (name: string, flags: RetryFlags, command: Command) => {
    const retried = await withBatches(command, (context) =>
      redriveDead(context, name, retryInput(flags), context.signal),
    );
    printRetried(retried, flags);
    process.stderr.write(`the record stays until: longhaul dead drop ${name}\n`);
  });
  command
    .command('drop')
    .description('remove the record of an item, or of all dead items of a batch; outcomes stay')
    .argument('<name>', 'BATCH/ITEM, or BATCH')
    .option('--yes', 'do it; without this it is only said what would be dropped')
    .option('--json', 'print the records that were dropped as JSON')
    .action(async (name: string, flags: { yes?: boolean; json?: boolean }, command: Command) => {
      await withStore(command, async (context) => {
        if (flags.yes !== true) {
          const count = (await findDead(context, name, context.signal)).length;
          throw new LonghaulError(
            'UNCONFIRMED',
            `this would drop the history of ${count} dead item${count === 1 ? '' : 's'} for good; add --yes to do it`,
          );
        }
        const dropped = await dropDead(context, name, context.signal);
        if (flags.json === true) printJson(dropped);
        else for (const item of dropped) printLine(`dropped ${deadId(item)}`);
      });
    });
  return command;
}

function describe(item: DeadItem): string {
  const last = item.history.at(-1);
  const when = last === undefined ? '' : `, last ${time(last.at)} by ${last.code}`;
  const { custom_ids, history, document } = item;
  const requests = `${custom_ids.length} request${custom_ids.length === 1 ? '' : 's'}`;
  return `${deadId(item)}  ${requests} on a document of ${document.tokens} tokens, ${history.length} cohorts ended${when}`;
}

function show(item: DeadItem): void {
  printLine(describe(item));
  printLine(`  requests ${item.custom_ids.map((id) => JSON.stringify(id)).join(', ')}`);
  printLine(`  document ${item.document.sha256}`);
  for (const { at, epoch, cohort, generation, rank, phase, code, message } of item.history) {
    const where = `${rank === null ? 'rank not known' : `rank ${rank}`}, ${phase ?? 'phase not known'}`;
    printLine(
      `  ${time(at)}  epoch ${epoch}, cohort ${cohort}, generation ${generation}, ${where}: ${code}: ${message}`,
    );
  }
}

function time(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
