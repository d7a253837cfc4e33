/** The local S3 server, spoken to over raw sockets: HTTP that is damaged, and signed requests that mean nothing. */
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startS3Server, type S3Server } from '../../src/local/s3/server.js';
import { hmac, sha256Hex, uriEncode } from '../../src/local/s3/signature.js';
import { damaged, fuzz, TEST_MS } from './support.js';

const credentials = { accessKeyId: 'fuzz', secretAccessKey: 'fuzz-secret' };
const faults: unknown[] = [];
let directory: string;
let server: S3Server;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'longhaul-fuzz-'));
  server = await startS3Server({
    dir: directory,
    credentials,
    bucket: 'bucket',
    fsync: false,
    onError: (error) => faults.push(error),
  });
});
afterAll(async () => {
  await server.close(0);
  await rm(directory, { recursive: true });
});

/** Sends the bytes as they are; what came back until the server closed or said nothing more. */
function speak(bytes: Buffer): Promise<string> {
  return new Promise((done) => {
    const socket = connect(server.port, '127.0.0.1');
    let answer = '';
    socket.setTimeout(1_500, () => socket.destroy());
    socket.on('data', (part) => {
      answer += part.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => done(answer));
    socket.end(bytes);
  });
}

interface Shape {
  method: string;
  path: string;
  query: [string, string][];
  headers: [string, string][];
  body: Buffer;
  payload: string;
}

function signed({ method, path, query, headers, body, payload }: Shape): Buffer {
  const timestamp = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const date = timestamp.slice(0, 8);
  const all = new Map<string, string>([
    ['host', 'fuzz'],
    ['x-amz-date', timestamp],
    ['x-amz-content-sha256', payload === '' ? sha256Hex(body) : payload],
    ...headers.map(([name, value]): [string, string] => [name, value.replace(/[^\x20-\x7e]/g, '?')]),
  ]);
  const names = [...all.keys()].sort();
  const search = query.map(([name, value]) => `${uriEncode(name)}=${uriEncode(value)}`);
  const canonical = [
    method,
    uriEncode(path, true),
    [...search].sort().join('&'),
    ...names.map((name) => `${name}:${(all.get(name) ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    names.join(';'),
    all.get('x-amz-content-sha256'),
  ].join('\n');
  const scope = `${date}/us-east-1/s3/aws4_request`;
  const key = ['us-east-1', 's3', 'aws4_request'].reduce<Buffer>(
    hmac,
    hmac(`AWS4${credentials.secretAccessKey}`, date),
  );
  const signature = hmac(
    key,
    ['AWS4-HMAC-SHA256', timestamp, scope, sha256Hex(canonical)].join('\n'),
  ).toString('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope},SignedHeaders=${names.join(';')},Signature=${signature}`;
  const head = [
    `${method} ${uriEncode(path, true)}${search.length > 0 ? `?${search.join('&')}` : ''} HTTP/1.1`,
    ...[...all].map(([name, value]) => `${name}: ${value}`),
    `authorization: ${authorization}`,
    ...(all.has('content-length') ? [] : [`content-length: ${body.length}`]),
    'connection: close',
    '',
    '',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head), body]);
}

const name = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    'a/b',
    '../../etc/passwd',
    '..',
    '.',
    'a//b',
    'a/',
    '\u0000',
    'ä\u{1f600}',
    'x'.repeat(1025),
    '_faults',
    '%2e%2e',
  ),
  fc.string({ maxLength: 12, unit: 'binary' }),
);
const value = fc.oneof(
  fc.constantFrom(
    '',
    '0',
    '1',
    '-1',
    '2',
    '10000',
    '10001',
    '99999999999999999999',
    'NaN',
    '*',
    '"x"',
    'bytes=0-',
    'bytes=-1',
    'bytes=9-1',
    'bytes=0-99999999999999999999',
    'url',
    '/',
    'a',
    'AAAA',
    'aGVsbG8=',
    'x'.repeat(3000),
    'aws-chunked',
    'Thu, 01 Jan 1970 00:00:00 GMT',
  ),
  fc.string({ maxLength: 12 }),
);
const xml = damaged(
  [
    '<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Quiet>true</Quiet></Delete>',
    '<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>',
    '<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>',
  ],
  [
    '<',
    '>',
    '</',
    '&',
    '&#0;',
    '&#x110000;',
    '&lol;',
    '<!DOCTYPE x [<!ENTITY a "b">]>',
    '<![CDATA[',
    '<Object>'.repeat(400),
    ']]>',
    '\u0000',
  ],
);
const chunked = damaged(
  [
    '5;chunk-signature=0\r\nhello\r\n0;chunk-signature=0\r\n\r\n',
    '5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n',
  ],
  ['\r\n', ';', 'ffffffffffffffff', '-1', 'x-amz-checksum-sha256:', '0\r\n'],
);
const shape: fc.Arbitrary<Shape> = fc.record({
  method: fc.constantFrom('GET', 'PUT', 'HEAD', 'DELETE', 'POST', 'PATCH', 'OPTIONS'),
  path: fc
    .tuple(fc.constantFrom('/bucket', '/other', '/', '/x', '/bucket', '/bucket'), name)
    .map(([bucket, key]) => `${bucket}/${key}`),
  query: fc.array(
    fc.tuple(
      fc.constantFrom(
        'uploads',
        'uploadId',
        'partNumber',
        'delete',
        'list-type',
        'max-keys',
        'prefix',
        'delimiter',
        'continuation-token',
        'start-after',
        'encoding-type',
        'key-marker',
        'part-number-marker',
        'max-parts',
        'location',
        'acl',
        'response-content-type',
        'x-id',
        '__proto__',
      ),
      value,
    ),
    { maxLength: 3 },
  ),
  headers: fc.array(
    fc.tuple(
      fc.constantFrom(
        'range',
        'if-match',
        'if-none-match',
        'if-modified-since',
        'content-md5',
        'x-amz-checksum-sha256',
        'x-amz-checksum-crc32',
        'x-amz-sdk-checksum-algorithm',
        'x-amz-copy-source',
        'x-amz-meta-a',
        'x-amz-decoded-content-length',
        'x-amz-trailer',
        'content-encoding',
        'content-type',
        'x-amz-metadata-directive',
        'x-amz-checksum-mode',
        'x-amz-checksum-type',
      ),
      value,
    ),
    { maxLength: 3 },
  ),
  body: fc.oneof(
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    xml,
    chunked,
  ),
  payload: fc.constantFrom(
    '',
    '',
    '',
    'UNSIGNED-PAYLOAD',
    'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    'zz',
  ),
});

const plain: Shape = {
  method: 'PUT',
  path: '/bucket/a',
  query: [],
  headers: [],
  body: Buffer.from('hello'),
  payload: '',
};
const words = [
  '\r\n',
  '\r\n\r\n',
  ' HTTP/1.1',
  ' HTTP/9.9',
  ':',
  'transfer-encoding: chunked\r\n',
  'content-length: 99\r\n',
  'authorization: AWS4-HMAC-SHA256 Credential=,,=;\r\n',
  'x-amz-date: 99999999T999999Z\r\n',
  '%',
  '%00',
  '%zz',
  '?X-Amz-Signature=1&X-Amz-Algorithm=',
  '\u0000',
  'x: '.padEnd(20_000, 'y'),
];

test(
  'the S3 endpoint',
  async () => {
    let allowed = 0;
    const input = fc.oneof(
      { weight: 3, arbitrary: shape.map((one) => () => signed(one)) },
      {
        weight: 1,
        arbitrary: damaged([signed(plain), signed({ ...plain, method: 'GET' })], words).map(
          (bytes) => () => bytes,
        ),
      },
    );
    await fuzz('the S3 endpoint', fc.array(input, { minLength: 4, maxLength: 4 }), async (requests) => {
      const answers = await Promise.all(requests.map((request) => speak(request())));
      for (const answer of answers) {
        const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
        if (status >= 200 && status < 300) allowed++;
        // 501: what this server says it has not.
        expect(status === 501 ? 0 : status, answer.slice(0, 500)).toBeLessThan(500);
      }
      expect(faults).toEqual([]);
      // Alive, and for well-formed requests as good as before.
      expect(await speak(signed({ ...plain, method: 'GET', path: '/', body: Buffer.alloc(0) }))).toMatch(
        /^HTTP\/1\.1 200/,
      );
    });
    expect(allowed).toBeGreaterThan(0);
  },
  TEST_MS,
);
