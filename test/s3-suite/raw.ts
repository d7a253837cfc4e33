/** Requests that the SDK would not send: signed by the SDK's own signer, then sent as they are. */
import { createHash, createHmac } from 'node:crypto';
import { request } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { S3Client } from '@aws-sdk/client-s3';
import type { Target } from './target.js';

export interface RawRequest {
  method: string;
  /** Decoded. */
  name: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
}

export interface RawReply {
  status: number;
  body: string;
  /** Of an error document. */
  code: string | undefined;
}

interface Signed {
  method: string;
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
}

interface Signer {
  sign(request: Signed, options?: { signingDate?: Date }): Promise<Signed>;
  presign(request: Signed, options: { expiresIn: number; signingDate?: Date }): Promise<Signed>;
}

function unsigned(target: Target, { method, name, query = {}, headers = {} }: RawRequest): Signed {
  const { protocol, hostname, port, host } = new URL(target.at.endpoint);
  const encoded = encodeURIComponent(`${target.bucket}/${target.key(name)}`)
    .replace(/%2F/g, '/')
    .replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return {
    method,
    protocol,
    hostname,
    port: port === '' ? undefined : Number(port),
    path: `/${encoded}`,
    query,
    headers: { host, ...headers },
  };
}

async function signerOf(target: Target, client: S3Client): Promise<Signer> {
  const scheme = { name: 'sigv4', signingName: 's3', signingRegion: target.at.region, properties: {} };
  return (await client.config.signer(scheme)) as unknown as Signer;
}

export async function sign(
  target: Target,
  raw: RawRequest,
  { client = target.client, signingDate }: { client?: S3Client; signingDate?: Date } = {},
): Promise<Signed> {
  return (await signerOf(target, client)).sign(unsigned(target, raw), { signingDate });
}

export async function presign(
  target: Target,
  raw: RawRequest,
  options: { expiresIn: number; signingDate?: Date; client?: S3Client },
): Promise<Signed> {
  const { client = target.client, ...rest } = options;
  // What is sent is not known when the link is made.
  const headers = { ...raw.headers, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' };
  return (await signerOf(target, client)).presign(unsigned(target, { ...raw, headers }), rest);
}

export function send(
  { method, protocol, hostname, port, path, query, headers }: Signed,
  body?: Buffer,
): Promise<RawReply> {
  const encode = (text: string) =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const search = Object.entries(query).map(([name, value]) => `${encode(name)}=${encode(value)}`);
  return new Promise((done, fail) => {
    const sent = (protocol === 'https:' ? secureRequest : request)(
      {
        method,
        hostname,
        port,
        path: path + (search.length > 0 ? `?${search.join('&')}` : ''),
        headers: body === undefined ? headers : { ...headers, 'content-length': body.length },
        agent: false,
        timeout: 30_000,
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', fail);
        response.on('end', () => {
          const text = Buffer.concat(parts).toString();
          done({ status: response.statusCode ?? 0, body: text, code: /<Code>(\w+)<\/Code>/.exec(text)?.[1] });
        });
      },
    );
    sent.on('timeout', () => sent.destroy(new Error('no answer within 30 s')));
    sent.on('error', fail);
    sent.end(body);
  });
}

const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest();
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');

/** The body of a PUT whose chunks are signed one after the other, from the signature of its head on. */
export function signedChunks(
  target: Target,
  head: Signed,
  chunks: Buffer[],
  trailers: Record<string, string> = {},
): Buffer {
  const date = head.headers['x-amz-date'] ?? '';
  const day = date.slice(0, 8);
  const scope = `${day}/${target.at.region}/s3/aws4_request`;
  const secret = `AWS4${target.at.credentials.secretAccessKey}`;
  const key = hmac(hmac(hmac(hmac(secret, day), target.at.region), 's3'), 'aws4_request');
  const authorization = head.headers['authorization'] ?? head.headers['Authorization'] ?? '';
  let previous = /Signature=([0-9a-f]{64})/.exec(authorization)?.[1] ?? '';
  const next = (kind: string, ...hashes: string[]): string => {
    previous = hmac(key, [kind, date, scope, previous, ...hashes].join('\n')).toString('hex');
    return previous;
  };
  const parts: (Buffer | string)[] = [];
  for (const chunk of [...chunks, Buffer.alloc(0)]) {
    const signature = next('AWS4-HMAC-SHA256-PAYLOAD', sha256(''), sha256(chunk));
    parts.push(`${chunk.length.toString(16)};chunk-signature=${signature}\r\n`, chunk);
    if (chunk.length > 0) parts.push('\r\n');
  }
  const names = Object.keys(trailers);
  for (const name of names) parts.push(`${name}:${trailers[name]}\r\n`);
  if (names.length > 0) {
    const text = names.map((name) => `${name}:${trailers[name]}\n`).join('');
    parts.push(`x-amz-trailer-signature:${next('AWS4-HMAC-SHA256-TRAILER', sha256(text))}\r\n`);
  }
  parts.push('\r\n');
  return Buffer.concat(parts.map((part) => Buffer.from(part)));
}
