/** A document on the web: every hop checked, with limits on time, size and redirects. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { createBrotliDecompress, createGunzip, createInflate, type Gunzip } from 'node:zlib';
import { pipeline } from 'node:stream/promises';
import { checkLiteralHost, publicLookup, resolveHost, type Resolver } from './public-address.js';
import { SourceError, tooLarge } from './source-error.js';
import type { SourcePolicy } from './source-policy.js';

const MAX_REDIRECTS = 5;
const ATTEMPTS = 3;
const REDIRECTS = [301, 302, 303, 307, 308];
/** Answers that may differ the next time. */
const TRANSIENT = [429, 500, 502, 503, 504];
const TRANSIENT_CODES = [
  'ECONNRESET',
  'ECONNREFUSED',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
  'EPIPE',
];

export interface Fetched {
  /** Where it came from after all redirects. */
  url: URL;
  contentType: string | undefined;
  /** Decompressed. */
  chunks: AsyncIterable<Uint8Array>;
}

/** An answer or a broken connection that is worth another try. */
class TransientError extends SourceError {}

/**
 * Fetches and hands over while `use` runs; whatever happens, the connection is closed after it.
 * @throws SourceError; its message goes on after the URL.
 */
export async function* fetchDocument(
  start: string,
  policy: SourcePolicy,
  use: (fetched: Fetched) => AsyncGenerator<string>,
  { signal, resolve = resolveHost }: { signal?: AbortSignal; resolve?: Resolver } = {},
): AsyncGenerator<string> {
  const stop = new AbortController();
  const overdue = new SourceError(
    'DOCUMENT_TIMEOUT',
    `took longer than ${policy.totalMs / 1000} s (documentTimeoutMs)`,
  );
  const total = setTimeout(() => stop.abort(overdue), policy.totalMs);
  const forward = (): void => stop.abort(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener('abort', forward);
  try {
    const { url, response } = await follow(new URL(start), policy, resolve, stop.signal);
    try {
      const length = Number(response.headers['content-length'] ?? 0);
      if (length > policy.maxBytes) throw tooLarge(start, policy.maxBytes);
      const chunks = bounded(decompress(response, stop.signal), start, policy.maxBytes);
      yield* use({ url, contentType: response.headers['content-type'], chunks });
    } finally {
      response.destroy();
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (stop.signal.aborted) throw overdue;
    throw error instanceof SourceError || !isNetworkError(error) ? error : unreachable(error);
  } finally {
    clearTimeout(total);
    signal?.removeEventListener('abort', forward);
    stop.abort();
  }
}

async function follow(
  start: URL,
  policy: SourcePolicy,
  resolve: Resolver,
  signal: AbortSignal,
): Promise<{ url: URL; response: IncomingMessage }> {
  let url = start;
  let from = start;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    checkUrl(url, policy, hop === 0 ? undefined : from);
    const response = await attempt(url, policy, resolve, signal);
    const { statusCode = 0, headers } = response;
    if (statusCode === 200) return { url, response };
    response.destroy();
    if (!REDIRECTS.includes(statusCode)) throw new SourceError('DOCUMENT_UNREACHABLE', answered(response));
    const next = headers.location;
    if (next === undefined || !URL.canParse(next, url.href)) {
      throw new SourceError('DOCUMENT_UNREACHABLE', `${answered(response)} without a place to go on to`);
    }
    from = url;
    url = new URL(next, url);
  }
  throw new SourceError('DOCUMENT_UNREACHABLE', `redirects more than ${MAX_REDIRECTS} times`);
}

/** @throws SourceError. `from`: where a redirect to it began. */
function checkUrl(url: URL, policy: SourcePolicy, from?: URL): void {
  const via = from === undefined ? '' : `redirects to ${url.origin}, which `;
  const refuse = (what: string) => new SourceError('DOCUMENT_URL_REFUSED', `${via}${what}`);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('is neither https:// nor http://');
  if (url.username !== '' || url.password !== '')
    throw refuse('holds a user name or a password; remove them');
  if (url.protocol === 'http:' && from?.protocol === 'https:') throw refuse('is http:// after https://');
  if (url.protocol === 'http:' && !policy.allowHttp) {
    throw refuse('is http://, which anybody on the way can change; use https://, or set documentHttp');
  }
  if (!isPrivateAllowed(url, policy)) checkLiteralHost(url.hostname);
}

function isPrivateAllowed(url: URL, { allowPrivateAddresses, privateHosts }: SourcePolicy): boolean {
  return allowPrivateAddresses || privateHosts.includes(url.hostname) || privateHosts.includes(url.host);
}

async function attempt(
  url: URL,
  policy: SourcePolicy,
  resolve: Resolver,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  for (let number = 1; ; number++) {
    try {
      const response = await send(url, policy, resolve, signal);
      if (number === ATTEMPTS || !TRANSIENT.includes(response.statusCode ?? 0)) return response;
      response.destroy();
    } catch (error) {
      if (number === ATTEMPTS || signal.aborted || !(error instanceof TransientError)) throw error;
    }
    await sleep(policy.backOffMs * 2 ** (number - 1), undefined, { signal });
  }
}

/** One request; resolves with its headers. Node's own agent, without connections that outlive their request. */
function send(
  url: URL,
  policy: SourcePolicy,
  resolve: Resolver,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const secure = url.protocol === 'https:';
  return new Promise((done, fail) => {
    const request = (secure ? httpsRequest : httpRequest)(url, {
      agent: false,
      signal,
      ca: policy.ca,
      lookup: isPrivateAllowed(url, policy) ? undefined : publicLookup(resolve),
      headers: {
        accept: 'text/*, application/json;q=0.9, application/xhtml+xml, */*;q=0.1',
        'accept-encoding': 'gzip, br, deflate',
        'user-agent': 'longhaul',
      },
    });
    const limit = (ms: number, what: string) =>
      setTimeout(() => {
        request.destroy(new TransientError('DOCUMENT_TIMEOUT', `${what} within ${ms / 1000} s`));
      }, ms);
    let timer = limit(policy.connectMs, 'took no connection');
    request.on('socket', (socket) => {
      socket.on(secure ? 'secureConnect' : 'connect', () => {
        clearTimeout(timer);
        timer = limit(policy.idleMs, 'sent no answer');
      });
    });
    request.on('response', (response) => {
      clearTimeout(timer);
      response.setTimeout(policy.idleMs, () => {
        const message = `sent nothing for ${policy.idleMs / 1000} s`;
        response.destroy(new SourceError('DOCUMENT_TIMEOUT', message));
      });
      done(response);
    });
    request.on('error', (error) => {
      clearTimeout(timer);
      fail(error instanceof SourceError || signal.aborted ? error : unreachable(error));
    });
    request.end();
  });
}

function decompress(response: IncomingMessage, signal: AbortSignal): AsyncIterable<Uint8Array> {
  const encoding = (response.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  let decoder: Gunzip;
  if (encoding === 'identity' || encoding === '') return response;
  else if (encoding === 'gzip' || encoding === 'x-gzip') decoder = createGunzip();
  else if (encoding === 'br') decoder = createBrotliDecompress();
  else if (encoding === 'deflate') decoder = createInflate();
  else throw new SourceError('DOCUMENT_TYPE_REFUSED', `is encoded as ${encoding}, which was not asked for`);
  // Its failure reaches the reader through the decoder.
  pipeline(response, decoder, { signal }).catch(() => undefined);
  return decoder;
}

/** Counts after decompression: a small answer can hold a large document. */
async function* bounded(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw tooLarge(name, maxBytes);
    yield chunk;
  }
}

function answered({ statusCode, statusMessage }: IncomingMessage): string {
  return `answers ${statusCode} ${(statusMessage ?? '').slice(0, 60)}`.trimEnd();
}

/** Node's own errors of sockets, TLS, look-ups and decompression carry a code. */
function isNetworkError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';
}

function unreachable(error: NodeJS.ErrnoException): SourceError {
  const Kind = TRANSIENT_CODES.includes(error.code ?? '') ? TransientError : SourceError;
  return new Kind('DOCUMENT_UNREACHABLE', `cannot be fetched: ${error.message || String(error.code)}`, {
    cause: error,
  });
}
