import { Command } from 'commander';
import { createLogger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { runScheduler } from '../producer/schedule/scheduler.js';
import { configOf, printJson } from './context.js';

/** `longhaul scheduler` */
export function schedulerCommand(): Command {
  return new Command('scheduler')
    .description('make batches and digests of schedules when they are due; run one or more of these')
    .option('--metrics-port <number>', 'serve /metrics, /healthz and /readyz there')
    .option('--json', 'print the exit code as JSON at the end; logs are JSON on stderr')
    .action(async ({ json }: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const { signal, dispose } = shutdownSignal();
      try {
        await runScheduler(config, createLogger('scheduler', config), signal);
        if (json === true) printJson({ exit_code: 0 });
        // BullMQ's blocking connections to a Redis that hangs would keep a process alive that has left.
        process.exit();
      } finally {
        dispose();
      }
    });
}
