import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { Command } from 'commander';
import { runDashboard } from '../dashboard/dashboard.js';
import { hashPassword } from '../dashboard/password.js';
import { LonghaulError } from '../platform/errors.js';
import { createLogger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { configOf, printJson, printLine } from './context.js';

const MIN_PASSWORD = 8;

/** `longhaul dashboard`, `longhaul dashboard password` */
export function dashboardCommand(): Command {
  const dashboard = new Command('dashboard')
    .description('serve a page that shows batches, cohorts and queues live, until interrupted')
    .option('--dashboard-host <address>', 'address to listen on; beyond this machine only with a password')
    .option('--dashboard-port <number>', 'port to listen on; 0: any that is free')
    .option('--metrics-port <number>', 'serve /metrics, /healthz and /readyz there')
    .option('--json', 'print the address as JSON')
    .action(async ({ json }: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const { signal, dispose } = shutdownSignal();
      try {
        const logger = createLogger('dashboard', config);
        await runDashboard(config, logger, signal, (url) => {
          if (json === true) printJson({ url });
          else printLine(`dashboard ${url}`);
        });
      } finally {
        dispose();
      }
    });
  dashboard
    .command('password')
    .description('read a password from the terminal or stdin; print its hash for dashboardPasswordHash')
    .option('--json', 'print the hash as JSON')
    .action(async (_options: unknown, command: Command) => {
      const dashboardPasswordHash = await hashPassword(await readPassword());
      if (command.optsWithGlobals<{ json?: boolean }>().json === true) printJson({ dashboardPasswordHash });
      else printLine(dashboardPasswordHash);
    });
  return dashboard;
}

async function readPassword(): Promise<string> {
  const { stdin } = process;
  // On a terminal what is typed goes nowhere.
  const output = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output, terminal: stdin.isTTY });
  try {
    if (stdin.isTTY) process.stderr.write('Password: ');
    let password = '';
    for await (const line of lines) {
      password = line;
      break;
    }
    if (stdin.isTTY) process.stderr.write('\n');
    if (password.length < MIN_PASSWORD)
      throw new LonghaulError(
        'PASSWORD',
        `the password has ${password.length} characters and ${MIN_PASSWORD} are the least; give a longer one`,
      );
    return password;
  } finally {
    lines.close();
  }
}
