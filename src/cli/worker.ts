import { Command } from 'commander';
import { runWorker } from '../gpu-worker/worker.js';
import { createLogger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { stopTracing } from '../platform/tracing.js';
import { configOf, printJson } from './context.js';

/** `longhaul worker --rank I --ranks N` */
export function workerCommand(): Command {
  return new Command('worker')
    .description('run one rank of a cohort; exits with 75 when all its ranks are to be started anew')
    .requiredOption('--rank <number>', 'this rank, from 0')
    .requiredOption('--ranks <number>', 'ranks of the cohort')
    .option('--cohort <name>', 'cohort that this rank belongs to')
    .option('--model <directory>', 'model directory')
    .option('--heads <file>', 'retaining heads, when not in the model directory')
    .option('--backend <name>', 'cpu, cuda or auto')
    .option('--comm <name>', 'what ranks exchange through: tcp, nccl, or auto')
    .option('--threads <number>', 'compute threads of this rank')
    .option('--host <address>', 'address on which the other ranks reach this one')
    .option('--port <number>', 'port for the other ranks; 0: any')
    .option('--cpu-precision <name>', 'float32, or bf16 where the processor multiplies it')
    .option(
      '--metrics-port <number>',
      'serve /metrics, /healthz and /readyz there; this rank adds its number',
    )
    .option('--json', 'print cohort, rank and exit code as JSON at the end; logs are JSON on stderr')
    .action(
      async (
        { model, heads, json }: { model?: string; heads?: string; json?: boolean },
        command: Command,
      ) => {
        command.setOptionValue('modelDir', model).setOptionValue('headsFile', heads);
        const config = configOf(command);
        const logger = createLogger('worker', config).child({ cohort: config.cohort, rank: config.rank });
        const { signal, dispose } = shutdownSignal();
        try {
          const code = await runWorker(config, logger, signal);
          logger.info({ code }, 'exit');
          if (json === true) printJson({ cohort: config.cohort, rank: config.rank, exit_code: code });
          await stopTracing();
          // A call that hangs in the driver must not keep a rank that has left.
          process.exit(code);
        } finally {
          dispose();
        }
      },
    );
}
