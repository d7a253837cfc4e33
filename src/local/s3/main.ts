import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { describeError } from '../../platform/errors.js';
import { policySchema } from './access.js';
import { banner, startS3Server } from './server.js';

/**
 * The server as a process:
 *   node main.js --dir <folder> (--access-key <key> --secret-key <key> | --credentials <file>)
 *                [--bucket <name>] [--port <n>] [--host <address>] [--limited <file>] [--no-fsync]
 * The credentials file holds {"accessKeyId", "secretAccessKey"}: unlike flags, it does not show in `ps`.
 * `--limited <file>` holds further keys, [{"accessKeyId", "secretAccessKey", "policy"}], each limited by its policy.
 * `--bucket` is created when it is missing. Prints one JSON line, {"endpoint": ..., "pid": ...}, once it listens. SIGTERM and SIGINT end it.
 */
const credentialsSchema = z.object({ accessKeyId: z.string().min(1), secretAccessKey: z.string().min(1) });
const limitedSchema = z.array(credentialsSchema.extend({ policy: policySchema }));

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string' },
      port: { type: 'string', default: '0' },
      host: { type: 'string', default: '127.0.0.1' },
      'access-key': { type: 'string' },
      'secret-key': { type: 'string' },
      credentials: { type: 'string' },
      limited: { type: 'string' },
      bucket: { type: 'string' },
      'no-fsync': { type: 'boolean', default: false },
    },
  });
  const need = (name: 'dir' | 'access-key' | 'secret-key'): string => {
    const value = values[name];
    if (value === undefined || value === '') throw new Error(`--${name} is missing.`);
    return value;
  };
  const dir = need('dir');
  const credentials =
    values.credentials === undefined
      ? { accessKeyId: need('access-key'), secretAccessKey: need('secret-key') }
      : credentialsSchema.parse(JSON.parse(readFileSync(values.credentials, 'utf8')));
  const log = (text: string): void => void process.stderr.write(`${new Date().toISOString()} ${text}\n`);
  const server = await startS3Server({
    dir,
    credentials,
    limited:
      values.limited === undefined
        ? []
        : limitedSchema.parse(JSON.parse(readFileSync(values.limited, 'utf8'))),
    host: values.host,
    port: Number(values.port),
    bucket: values.bucket,
    fsync: !values['no-fsync'],
    onError: (error, request) => log(`${request}: ${error instanceof Error ? error.stack : String(error)}`),
  });
  log(banner);
  process.stdout.write(`${JSON.stringify({ endpoint: server.endpoint, pid: process.pid })}\n`);
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    server.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log(describeError(error).message);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main().catch((error: unknown) => {
  process.stderr.write(`${describeError(error).message}\n`);
  process.exit(1);
});
