import { Command } from 'commander';
import type { Config } from '../platform/config.js';
import { startTracing } from '../platform/tracing.js';
import { VERSION } from '../platform/version.js';
import { aggregatorCommand } from './aggregator.js';
import { batchCommand } from './batch.js';
import { benchCommand } from './bench.js';
import { cancelCommand } from './cancel.js';
import { completionCommand } from './completion.js';
import { configOf } from './context.js';
import { dashboardCommand } from './dashboard.js';
import { deadCommand } from './dead.js';
import { demoCommand } from './demo.js';
import { doctorCommand } from './doctor.js';
import { engineCommand } from './engine-check.js';
import { addExamples } from './examples.js';
import { evalCommand } from './eval.js';
import { gatewayCommand } from './gateway.js';
import { headsCommand } from './heads.js';
import { localCommand } from './local.js';
import { planCommand } from './plan.js';
import { resultsCommand } from './results.js';
import { retryCommand } from './retry.js';
import { scheduleCommand } from './schedule.js';
import { schedulerCommand } from './scheduler.js';
import { statusCommand } from './status.js';
import { submitCommand } from './submit.js';
import { workerCommand } from './worker.js';

/** All of the command line, with nothing run yet. */
export function createProgram(): Command {
  const program = new Command('longhaul')
    .description('Answers questions about very long documents in bulk.')
    .version(VERSION, '--version')
    .option('--config <file>', 'JSON file with settings')
    .option('--redis-url <url>', 'redis:// or rediss:// URL')
    .option('--s3-endpoint <url>', 'S3 endpoint; without it, AWS')
    .option('--s3-region <name>', 'S3 region')
    .option('--s3-bucket <name>', 'S3 bucket')
    .option('--s3-prefix <prefix>', 'key prefix inside the bucket')
    .option('--s3-path-style', 'bucket in the path instead of the host name')
    .option('--profile <name>', 'time limits: normal or fast')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent')
    .showHelpAfterError('(add --help for usage)')
    .addHelpText(
      'after',
      `
Settings also come from LONGHAUL_* variables, the file of --config, and .longhaul/local.json.
Exit codes: 0 ok, 1 error, 2 not finished or not wholly answered, 64 wrong usage, 130 interrupted`,
    );
  const commands = [
    submitCommand(),
    statusCommand(),
    resultsCommand(),
    cancelCommand(),
    retryCommand(),
    deadCommand(),
    batchCommand(),
    demoCommand(),
    localCommand(),
    workerCommand(),
    aggregatorCommand(),
    dashboardCommand(),
    gatewayCommand(),
    scheduleCommand(),
    schedulerCommand(),
    engineCommand(),
    benchCommand(),
    planCommand(),
    evalCommand(),
    headsCommand(),
    doctorCommand(),
    completionCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  addExamples(program);
  program.hook('preAction', (_program, command) => openTracing(command));
  throwInsteadOfExit(program);
  return program;
}

/** Before the command opens its queues. Whatever is wrong with the settings, the command itself says so. */
async function openTracing(command: Command): Promise<void> {
  let config: Config;
  try {
    config = configOf(command);
  } catch {
    return;
  }
  await startTracing(config, command.name());
}

/** So that one place, main.ts, decides about exit codes; `addCommand` does not inherit this. */
function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const sub of command.commands) throwInsteadOfExit(sub);
}
