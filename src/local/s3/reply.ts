import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FaultAction } from './faults.js';
import type { Reply, ReplyStream } from './exchange.js';

/** The most that is read of a refused body so that its sender gets to see the reply. */
const maxDrain = 64 * 1024 * 1024;

/**
 * A client that is still sending when the connection closes sees a reset instead of the error, so
 * the rest of its body is read and thrown away first.
 */
async function drain(request: IncomingMessage): Promise<boolean> {
  if (request.readableEnded || request.complete) return true;
  let size = 0;
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxDrain) return false;
  }
  return true;
}

export async function sendReply(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply,
  fault?: FaultAction,
): Promise<void> {
  const { body } = reply;
  try {
    if (!(await drain(request))) response.setHeader('connection', 'close');
    for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
    if (typeof body === 'object') {
      response.setHeader('content-length', body.length);
      response.writeHead(reply.status);
      await sendStream(response, body, fault?.kind === 'truncate');
      return;
    }
    // A HEAD's length is that of the object and was set by the operation; 204 and 304 have none.
    const bodiless = request.method === 'HEAD' || reply.status === 204 || reply.status === 304;
    if (!bodiless) response.setHeader('content-length', Buffer.byteLength(body ?? ''));
    response.writeHead(reply.status);
    response.end(bodiless ? undefined : body);
  } finally {
    if (typeof body === 'object') await body.close();
  }
}

async function sendStream(response: ServerResponse, body: ReplyStream, truncate: boolean): Promise<void> {
  let left = truncate ? Math.floor(body.length / 2) : body.length;
  for await (const bytes of body.chunks) {
    const part = bytes.subarray(0, left);
    left -= part.length;
    if (!response.write(part)) await drained(response);
    if (left === 0) break;
  }
  if (truncate) response.destroy();
  else response.end();
}

/** Waits for room in the connection, or fails when the client has gone. */
async function drained(response: ServerResponse): Promise<void> {
  if (response.destroyed) throw new Error('The client closed the connection.');
  const stop = new AbortController();
  try {
    const closed = once(response, 'close', { signal: stop.signal }).then(() => {
      throw new Error('The client closed the connection.');
    });
    await Promise.race([once(response, 'drain', { signal: stop.signal }), closed]);
  } finally {
    stop.abort();
  }
}
