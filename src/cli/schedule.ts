import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { DEFAULT_OVERLAP } from '../contracts/schedule.js';
import { ConfigError } from '../platform/errors.js';
import { scheduleHistory, shownSchedule, type RunRecord } from '../producer/schedule/history.js';
import { newSchedule, type NewSchedule } from '../producer/schedule/new-schedule.js';
import {
  addSchedule,
  listSchedules,
  readSchedule,
  removeSchedule,
  setPaused,
  startRun,
  withScheduleQueue,
} from '../producer/schedule/store.js';
import { nextDue, runName } from '../producer/schedule/times.js';
import { printJson, printLine, withBatches, withStore } from './context.js';
import { wholeNumber, wholePriority } from './numbers.js';

interface AddFlags extends Omit<NewSchedule, 'name' | 'prompt' | 'thenPrompt'> {
  prompt: string;
  thenPrompt?: string;
  json?: boolean;
}
interface Json {
  json?: boolean;
}

/** `longhaul schedule add|list|pause|resume|run-now|remove|history` */
export function scheduleCommand(): Command {
  const command = new Command('schedule').description(
    'ask one question of new and changed documents at set times; `longhaul scheduler` does the work',
  );
  command
    .command('add')
    .description('add a schedule')
    .argument('<name>', 'a letter, then letters, digits, - and _')
    .requiredOption('--cron <pattern>', 'minute, hour, day, month, weekday: "0 6 * * *"')
    .option('--tz <zone>', 'time zone of the pattern', 'UTC')
    .requiredOption('--input <url>', 's3://bucket/prefix/ of the documents')
    .requiredOption('--prompt <file>', 'a file with the question to ask of each document')
    .option('--max-tokens <n>', 'of an answer', wholeNumber, 64)
    .option(
      '--overlap <tokens>',
      'of the parts of a document that the model cannot hold whole',
      wholeNumber,
      DEFAULT_OVERLAP,
    )
    .option(
      '--then-prompt <file>',
      "with the question to ask of such parts' answers (default: --prompt again)",
    )
    .option('--all', 'every document each time, not only those that are new or changed')
    .option('--out <url>', "s3://bucket/prefix/ for digests (default: digests/NAME/ in longhaul's bucket)")
    .option('--webhook <url>', 'http or https URL that is told of failed runs')
    .option('--priority <n>', '-100 to 100, higher runs first', wholePriority, 0)
    .option('--json', 'print the schedule as JSON')
    .action(
      async (name: string, { prompt: file, thenPrompt: then, ...flags }: AddFlags, command: Command) => {
        const prompt = await readPrompt('--prompt', file);
        const thenPrompt = then === undefined ? undefined : await readPrompt('--then-prompt', then);
        const added = newSchedule({ ...flags, name, prompt, thenPrompt });
        await withBatches(command, (context) => addSchedule(context, added, context.signal));
        if (flags.json === true) printJson(shownSchedule(added));
        else printLine(`added ${name}, next ${nextDue(added, new Date()).toISOString()}`);
      },
    );
  command
    .command('list')
    .description('list schedules and when they are due')
    .option('--json', 'print JSON')
    .action(async ({ json }: Json, command: Command) => {
      const schedules = await withStore(command, ({ store, signal }) => listSchedules(store, signal));
      const shown = schedules.map((one) => ({
        ...shownSchedule(one),
        next: one.paused ? null : nextDue(one, new Date()).toISOString(),
      }));
      if (json === true) printJson(shown);
      else if (shown.length === 0) printLine('no schedules');
      for (const { name, cron, tz, input, next } of json === true ? [] : shown) {
        printLine(`${name}  ${cron} (${tz})  ${input}  ${next === null ? 'paused' : `next ${next}`}`);
      }
    });
  for (const paused of [true, false]) {
    command
      .command(paused ? 'pause' : 'resume')
      .description(
        paused
          ? 'start no more runs; one under way goes on'
          : 'start runs again; those due meanwhile are not caught up',
      )
      .argument('<name>', 'of the schedule')
      .option('--json', 'print the schedule as JSON')
      .action(async (name: string, { json }: Json, command: Command) => {
        const after = await withBatches(command, (context) =>
          setPaused(context, name, paused, context.signal),
        );
        if (json === true) printJson(shownSchedule(after));
        else printLine(`${name} is ${paused ? 'paused' : `due ${nextDue(after, new Date()).toISOString()}`}`);
      });
  }
  command
    .command('run-now')
    .description('start a run now, also of a paused schedule')
    .argument('<name>', 'of the schedule')
    .option('--json', 'print the name of the run as JSON')
    .action(async (name: string, { json }: Json, command: Command) => {
      const run = runName(new Date());
      await withBatches(command, async ({ store, redis, signal }) => {
        await readSchedule(store, name, signal);
        await withScheduleQueue(redis, (queue) =>
          startRun(store, queue, name, { run, cause: 'manual' }, signal),
        );
      });
      if (json === true) printJson({ schedule: name, run });
      else printLine(run);
    });
  command
    .command('remove')
    .description('remove a schedule and its history; batches and digests stay')
    .argument('<name>', 'of the schedule')
    .option('--json', 'print its name as JSON')
    .action(async (name: string, { json }: Json, command: Command) => {
      await withBatches(command, (context) => removeSchedule(context, name, context.signal));
      if (json === true) printJson({ removed: name });
      else printLine(`removed ${name}`);
    });
  command
    .command('history')
    .description('list the runs of a schedule, newest first')
    .argument('<name>', 'of the schedule')
    .option('--limit <n>', 'at most this many', wholeNumber, 20)
    .option('--json', 'print JSON')
    .action(async (name: string, { limit, json }: Json & { limit: number }, command: Command) => {
      const runs = await withStore(command, ({ store, signal }) =>
        scheduleHistory(store, name, limit, signal),
      );
      if (json === true) printJson(runs);
      else if (runs.length === 0) printLine('no runs');
      else for (const run of runs) printLine(describe(run));
    });
  return command;
}

function describe({ run, cause, status, batch_id, then, end, webhook }: RunRecord): string {
  const parts = [run, cause, status];
  if (end !== null) parts.push(`${end.answered} of ${end.documents} documents answered`);
  if (batch_id !== null) parts.push(then === null ? batch_id : `${batch_id} then ${then}`);
  if (end?.digest) parts.push(end.digest.markdown);
  if (end?.error) parts.push(`${end.error.code}: ${end.error.message}`);
  if (webhook !== null) parts.push(`webhook ${webhook.detail}`);
  return parts.join('  ');
}

async function readPrompt(option: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError(`${option} ${file} cannot be read; name a file with the question in it`, { cause });
  }
}
