import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, LonghaulError } from '../../platform/errors.js';
import { lockFile } from '../lock-file.js';
import { checkAccess, hideMissing, type Policy } from './access.js';
import { control, controlPath } from './control.js';
import { Disk } from './disk.js';
import { S3Error } from './errors.js';
import type { Reply } from './exchange.js';
import { Faults, type FaultAction } from './faults.js';
import { sendReply } from './reply.js';
import { route } from './routes.js';
import { verifySignature, type Credentials } from './signature.js';
import { Store } from './store.js';
import { xmlDocument } from './xml.js';

/**
 * A small S3 server over a folder. FOR DEVELOPMENT AND TESTS, NOT FOR PRODUCTION: one process, one
 * disk, no replication; access control is a policy for each further pair of keys.
 */
export interface S3ServerOptions {
  dir: string;
  /** May do everything. */
  credentials: Credentials;
  /** Further keys, each limited by its policy. */
  limited?: readonly LimitedKey[];
  host?: string;
  /** 0: any free port. */
  port?: number;
  faults?: Faults;
  /** Created at start when it is missing. */
  bucket?: string;
  /** Default true; see disk.ts. */
  fsync?: boolean;
  /** Told about requests that failed for a reason of ours. */
  onError?: (error: unknown, request: string) => void;
}

export interface LimitedKey extends Credentials {
  policy: Policy;
}

export interface S3Server {
  endpoint: string;
  port: number;
  faults: Faults;
  /** Stops listening, gives running requests `graceMs`, then cuts their connections. */
  close(graceMs?: number): Promise<void>;
}

export const banner =
  'longhaul local S3 server: for development and tests, NOT for production (one process, one disk, no replication).';

export async function startS3Server(options: S3ServerOptions): Promise<S3Server> {
  const { dir, credentials, host = '127.0.0.1', port = 0, onError = () => undefined } = options;
  // One process per folder: conditional writes are atomic because one process decides.
  const release = await lockFile(
    join(dir, 'server.lock'),
    (pid) =>
      new LonghaulError(
        'S3_FOLDER_IN_USE',
        `The folder ${dir} is served by process ${pid} already. Stop that one, or choose another folder.`,
      ),
  );
  try {
    const store = await Store.open(dir, new Disk(options.fsync ?? true));
    if (options.bucket !== undefined && !store.buckets.has(options.bucket))
      await store.createBucket(options.bucket);
    const faults = options.faults ?? new Faults();
    const stopping = new AbortController();
    const limited = options.limited ?? [];
    const context: Context = { store, faults, credentials, limited, onError, stopping: stopping.signal };
    const server = createServer(
      { keepAliveTimeout: 60_000, requestTimeout: 600_000 },
      (request, response) => {
        // handle() catches all that can be answered; what is left is a connection that is gone.
        handle(request, response, context).catch(() => response.destroy());
      },
    );
    await listen(server, port, host);
    const address = server.address() as AddressInfo;
    return {
      endpoint: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`,
      port: address.port,
      faults,
      async close(graceMs = 5_000) {
        stopping.abort();
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeIdleConnections();
        const cut = setTimeout(() => server.closeAllConnections(), graceMs);
        await closed;
        clearTimeout(cut);
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

interface Context {
  store: Store;
  faults: Faults;
  credentials: Credentials;
  limited: readonly LimitedKey[];
  onError: NonNullable<S3ServerOptions['onError']>;
  stopping: AbortSignal;
}

async function handle(request: IncomingMessage, response: ServerResponse, context: Context): Promise<void> {
  const requestId = randomBytes(8).toString('hex').toUpperCase();
  response.setHeader('server', 'longhaul-local-s3');
  response.setHeader('x-amz-request-id', requestId);
  let reply: Reply;
  let fault: FaultAction | undefined;
  try {
    if (request.url === controlPath)
      reply = await control(request, context.faults, context.credentials.secretAccessKey);
    else {
      const done = await answer(request, context);
      if (done === 'cut') return;
      ({ reply, fault } = done);
    }
  } catch (error) {
    // A client that hung up in the middle of its body is not a fault of ours.
    if (!(error instanceof S3Error) && !request.destroyed)
      context.onError(error, `${request.method} ${request.url}`);
    reply = errorReply(error, request, requestId);
  }
  await sendReply(request, response, reply, fault);
}

async function answer(
  request: IncomingMessage,
  context: Context,
): Promise<{ reply: Reply; fault?: FaultAction } | 'cut'> {
  const { method = 'GET' } = request;
  const headers: Record<string, string | undefined> = {};
  for (const [name, values] of Object.entries(request.headersDistinct)) headers[name] = values?.join(',');
  const { path, query } = parseUrl(request.url ?? '/');
  const slash = path.indexOf('/', 1);
  const bucket = slash < 0 ? path.slice(1) : path.slice(1, slash);
  const key = slash < 0 ? '' : path.slice(slash + 1);
  const parameters = new Map(query);

  const { limited } = context;
  const signature = verifySignature({ method, path, query, headers }, [context.credentials, ...limited]);
  const { name, run } = route({ method, bucket, key, query: parameters, headers });
  const policy = limited.find(({ accessKeyId }) => accessKeyId === signature.accessKeyId)?.policy;
  const source = headers['x-amz-copy-source'];
  if (policy !== undefined)
    checkAccess(policy, {
      name,
      bucket,
      key,
      source: source === undefined ? undefined : parseUrl(source).path,
    });
  const fault = context.faults.take({ operation: name, bucket, key });
  switch (fault?.kind) {
    case 'reset-before':
      request.socket.resetAndDestroy();
      return 'cut';
    case 'error':
      throw fault.status === 503
        ? new S3Error('SlowDown', 'Please reduce your request rate. (A fault that was asked for.)')
        : new S3Error(
            'InternalError',
            'We encountered an internal error. Please try again. (A fault that was asked for.)',
          );
    case 'delay':
      await sleep(fault.ms, undefined, { signal: context.stopping });
  }
  // Not destroyed on return: after an error the connection must live long enough to carry the reply.
  const body = request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  const { store, faults } = context;
  const reply = await run({
    store,
    faults,
    method,
    bucket,
    key,
    query: parameters,
    headers,
    body,
    signature,
  }).catch((error: unknown) => {
    throw policy === undefined ? error : hideMissing(error, policy, bucket);
  });
  if (fault?.kind === 'reset-after') {
    if (typeof reply.body === 'object') await reply.body.close();
    request.socket.resetAndDestroy();
    return 'cut';
  }
  return { reply, fault };
}

function parseUrl(url: string): { path: string; query: [string, string][] } {
  const at = url.indexOf('?');
  const decode = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch (cause) {
      throw new S3Error('InvalidURI', "Couldn't parse the specified URI.", { URI: url }, { cause });
    }
  };
  // Decoded as it is, never normalised: `..` is an ordinary part of a key.
  const path = decode(at < 0 ? url : url.slice(0, at));
  const pairs =
    at < 0
      ? []
      : url
          .slice(at + 1)
          .split('&')
          .filter((p) => p !== '');
  const query = pairs.map((pair): [string, string] => {
    const eq = pair.indexOf('=');
    const [name, value] = eq < 0 ? [pair, ''] : [pair.slice(0, eq), pair.slice(eq + 1)];
    return [decode(name.replace(/\+/g, ' ')), decode(value.replace(/\+/g, ' '))];
  });
  return { path, query };
}

function errorReply(error: unknown, request: IncomingMessage, requestId: string): Reply {
  const known = error instanceof S3Error ? error : new S3Error('InternalError', describeError(error).message);
  if (known.status === 304) return { status: 304, headers: { etag: `"${known.detail['ETag']}"` } };
  const body = xmlDocument('Error', {
    Code: known.s3Code,
    Message: known.message,
    ...known.detail,
    Resource: request.url ?? '',
    RequestId: requestId,
  });
  return { status: known.status, headers: { 'content-type': 'application/xml' }, body };
}
