/** Commands that are a process of their own: they run until they are told to leave. */
import { Command } from 'commander';
import type { Config } from '../platform/config.js';
import { createLogger, type Logger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { stopTracing } from '../platform/tracing.js';
import { configOf, printJson } from './context.js';

export function serviceCommand(
  name: string,
  description: string,
  run: (config: Config, logger: Logger, signal: AbortSignal) => Promise<void>,
): Command {
  return new Command(name)
    .description(description)
    .option('--metrics-port <number>', 'serve /metrics, /healthz and /readyz there')
    .option('--json', 'print the exit code as JSON at the end; logs are JSON on stderr')
    .action(async ({ json }: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const { signal, dispose } = shutdownSignal();
      try {
        await run(config, createLogger(name, config), signal);
        if (json === true) printJson({ exit_code: 0 });
        await stopTracing();
        // BullMQ's blocking connections to a Redis that hangs would keep a process alive that has left.
        process.exit();
      } finally {
        dispose();
      }
    });
}
