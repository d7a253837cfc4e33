import { Command } from 'commander';
import { runAggregator } from '../aggregator/aggregator.js';
import { createLogger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { stopTracing } from '../platform/tracing.js';
import { configOf, printJson } from './context.js';

/** `longhaul aggregator` */
export function aggregatorCommand(): Command {
  return new Command('aggregator')
    .description('write answers to S3 and finish batches; run one or more of these')
    .option('--metrics-port <number>', 'serve /metrics, /healthz and /readyz there')
    .option('--json', 'print the exit code as JSON at the end; logs are JSON on stderr')
    .action(async ({ json }: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const { signal, dispose } = shutdownSignal();
      try {
        await runAggregator(config, createLogger('aggregator', config), signal);
        if (json === true) printJson({ exit_code: 0 });
        await stopTracing();
        // BullMQ's blocking connections to a Redis that hangs would keep a process alive that has left.
        process.exit();
      } finally {
        dispose();
      }
    });
}
