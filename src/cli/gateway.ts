import { Command } from 'commander';
import { addKey, DEFAULT_LIMITS, listKeys, revokeKey, type ApiKey } from '../gateway/api-keys.js';
import { runGateway } from '../gateway/gateway.js';
import { createLogger } from '../platform/logger.js';
import { shutdownSignal } from '../platform/shutdown.js';
import { configOf, printJson, printLine, withStore } from './context.js';
import { wholeBytes, wholeNumber } from './numbers.js';

/** `longhaul gateway`, `longhaul gateway key add|list|revoke` */
export function gatewayCommand(): Command {
  const gateway = new Command('gateway')
    .description("serve OpenAI's Files and Batch API, until interrupted")
    .option('--gateway-host <address>', 'address to listen on')
    .option('--gateway-port <number>', 'port to listen on; 0: any that is free')
    .option('--gateway-tls-cert <file>', 'certificate (PEM); without one it speaks plain HTTP')
    .option('--gateway-tls-key <file>', 'its private key (PEM)')
    .option('--metrics-port <number>', 'serve /metrics, /healthz and /readyz there')
    .option('--json', 'print the address as JSON')
    .action(async ({ json }: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const { signal, dispose } = shutdownSignal();
      try {
        const logger = createLogger('gateway', config);
        await runGateway(config, logger, signal, (url) => {
          if (json === true) printJson({ url });
          else printLine(`gateway ${url}/v1`);
        });
      } finally {
        dispose();
      }
    });
  return gateway.addCommand(keyCommand());
}

interface AddFlags {
  requestsPerMinute?: number;
  bytesPerDay?: number;
  batches?: number;
}

const wantsJson = (command: Command): boolean => command.optsWithGlobals<{ json?: boolean }>().json === true;

function keyCommand(): Command {
  const key = new Command('key').description('API keys of the gateway');
  const { requests_per_minute, bytes_per_day, batches } = DEFAULT_LIMITS;
  key
    .command('add')
    .description('make a key and print it, this once: only its hash is kept')
    .argument('<name>', 'whose files and batches it sees: those of this name')
    .option('--requests-per-minute <n>', `default ${requests_per_minute}`, wholeNumber)
    .option('--bytes-per-day <n>', `uploaded, default ${bytes_per_day}`, wholeBytes)
    .option('--batches <n>', `that have not ended, default ${batches}`, wholeNumber)
    .option('--json', 'print the key with its id and limits as JSON')
    .action(async (name: string, flags: AddFlags, command: Command) => {
      await withStore(command, async ({ store }) => {
        const added = await addKey(store, name, {
          ...(flags.requestsPerMinute !== undefined && { requests_per_minute: flags.requestsPerMinute }),
          ...(flags.bytesPerDay !== undefined && { bytes_per_day: flags.bytesPerDay }),
          ...(flags.batches !== undefined && { batches: flags.batches }),
        });
        if (wantsJson(command)) printJson(added);
        else {
          process.stderr.write(`${added.id} of ${name}; this is the only time that it is shown:\n`);
          printLine(added.secret);
        }
      });
    });
  key
    .command('list')
    .description('keys by name, with their limits')
    .option('--json', 'print them as JSON')
    .action(async (_flags: unknown, command: Command) => {
      await withStore(command, async ({ store }) => {
        const keys = await listKeys(store);
        if (wantsJson(command)) printJson(keys);
        else for (const each of keys) printLine(describe(each));
      });
    });
  key
    .command('revoke')
    .description('end a key: gateways refuse it within two seconds')
    .argument('<id>', 'as `list` shows it')
    .option('--json', 'print its id as JSON')
    .action(async (id: string, _flags: unknown, command: Command) => {
      await withStore(command, async ({ store }) => {
        await revokeKey(store, id);
        if (wantsJson(command)) printJson({ id, revoked: true });
        else printLine(`${id} is revoked`);
      });
    });
  return key;
}

function describe({ id, owner, created_at, limits }: ApiKey): string {
  const { requests_per_minute, bytes_per_day, batches } = limits;
  const since = new Date(created_at * 1000).toISOString();
  return `${id}  ${owner}  ${since}  ${requests_per_minute} requests/min, ${bytes_per_day} bytes/day, ${batches} batches`;
}
