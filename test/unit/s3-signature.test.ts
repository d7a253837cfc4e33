import { describe, expect, test } from 'vitest';
import { decodeChunked } from '../../src/local/s3/chunked.js';
import { S3Error } from '../../src/local/s3/errors.js';
import { verifySignature, type SignedParts } from '../../src/local/s3/signature.js';

// The examples of the AWS documentation ("Authenticating Requests", Signature Version 4 for S3).
const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};
const now = Date.UTC(2013, 4, 24);
const emptySha = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const credential = 'AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request';

const headerExample: SignedParts = {
  method: 'GET',
  path: '/test.txt',
  query: [],
  headers: {
    host: 'examplebucket.s3.amazonaws.com',
    range: 'bytes=0-9',
    'x-amz-content-sha256': emptySha,
    'x-amz-date': '20130524T000000Z',
    authorization:
      `AWS4-HMAC-SHA256 Credential=${credential},SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,` +
      'Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
};
const presignedExample: SignedParts = {
  method: 'GET',
  path: '/test.txt',
  query: [
    ['X-Amz-Algorithm', 'AWS4-HMAC-SHA256'],
    ['X-Amz-Credential', credential],
    ['X-Amz-Date', '20130524T000000Z'],
    ['X-Amz-Expires', '86400'],
    ['X-Amz-SignedHeaders', 'host'],
    ['X-Amz-Signature', 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404'],
  ],
  headers: { host: 'examplebucket.s3.amazonaws.com' },
};

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof S3Error ? error.code : String(error);
  }
  return 'none';
}

describe('the signature of a request', () => {
  test('in the header', () => {
    expect(verifySignature(headerExample, credentials, now).payload).toBe(emptySha);
  });
  test('in a presigned query', () => {
    expect(verifySignature(presignedExample, credentials, now).payload).toBe('UNSIGNED-PAYLOAD');
    expect(codeOf(() => verifySignature(presignedExample, credentials, now + 86_401_000))).toBe(
      'AccessDenied',
    );
    expect(codeOf(() => verifySignature(presignedExample, credentials, now - 3_600_000))).toBe(
      'AccessDenied',
    );
  });
  test.each<[string, Partial<SignedParts>, string]>([
    ['another path', { path: '/other.txt' }, 'SignatureDoesNotMatch'],
    ['another method', { method: 'DELETE' }, 'SignatureDoesNotMatch'],
    ['another query', { query: [['a', 'b']] }, 'SignatureDoesNotMatch'],
    [
      'another header',
      { headers: { ...headerExample.headers, range: 'bytes=0-99' } },
      'SignatureDoesNotMatch',
    ],
    [
      'an unsigned x-amz- header',
      { headers: { ...headerExample.headers, 'x-amz-acl': 'x' } },
      'AccessDenied',
    ],
    ['no signature', { headers: { host: 'x' } }, 'AccessDenied'],
    ['signature version 2', { headers: { host: 'x', authorization: 'AWS a:b' } }, 'InvalidRequest'],
  ])('is refused for %s', (_, change, code) => {
    expect(codeOf(() => verifySignature({ ...headerExample, ...change }, credentials, now))).toBe(code);
  });
  test('is refused for a wrong secret, key or clock', () => {
    const check = (secretAccessKey: string, accessKeyId: string, at: number): string =>
      codeOf(() => verifySignature(headerExample, { accessKeyId, secretAccessKey }, at));
    const { accessKeyId: id, secretAccessKey: secret } = credentials;
    expect(check('wrong', id, now)).toBe('SignatureDoesNotMatch');
    expect(check(secret, 'someone', now)).toBe('InvalidAccessKeyId');
    expect(check(secret, id, now + 16 * 60_000)).toBe('RequestTimeTooSkewed');
    expect(check(secret, id, now - 16 * 60_000)).toBe('RequestTimeTooSkewed');
    expect(check(secret, id, now + 14 * 60_000)).toBe('none');
  });
});

describe('the aws-chunked body', () => {
  const signedRequest: SignedParts = {
    method: 'PUT',
    path: '/examplebucket/chunkObject.txt',
    query: [],
    headers: {
      host: 's3.amazonaws.com',
      'content-encoding': 'aws-chunked',
      'content-length': '66824',
      'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
      'x-amz-date': '20130524T000000Z',
      'x-amz-decoded-content-length': '66560',
      'x-amz-storage-class': 'REDUCED_REDUNDANCY',
      authorization:
        `AWS4-HMAC-SHA256 Credential=${credential},SignedHeaders=content-encoding;content-length;host;` +
        'x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,' +
        'Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
    },
  };
  const chunk = (size: number, signature: string): string =>
    `${size.toString(16)};chunk-signature=${signature}\r\n${'a'.repeat(size)}\r\n`;
  const body =
    chunk(65536, 'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648') +
    chunk(1024, '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497') +
    chunk(0, 'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9');

  // eslint-disable-next-line @typescript-eslint/require-await -- an async source is what is read
  async function* inPieces(text: string, size: number): AsyncGenerator<Buffer> {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  }
  async function decode(
    text: string,
    payload?: string,
    declared: string[] = [],
    size = 1000,
  ): Promise<string> {
    const signature = verifySignature(signedRequest, credentials, now);
    const trailers = {};
    let out = '';
    const options = {
      signature: { ...signature, payload: payload ?? signature.payload },
      declaredTrailers: declared,
    };
    for await (const part of decodeChunked(inPieces(text, size), options, trailers)) out += part.toString();
    return Object.keys(trailers).length > 0 ? `${out}|${JSON.stringify(trailers)}` : out;
  }
  const refusal = (promise: Promise<unknown>): Promise<string> =>
    promise.then(
      () => 'none',
      (e: unknown) => (e as S3Error).code,
    );

  test.each([1, 7, 1000, 100_000])('signed chunks, arriving %i bytes at a time', async (size) => {
    expect(await decode(body, undefined, [], size)).toBe('a'.repeat(66560));
  });
  test('one changed byte, signature or order is refused', async () => {
    expect(await refusal(decode(body.replace('aaa\r\n', 'aab\r\n')))).toBe('SignatureDoesNotMatch');
    expect(await refusal(decode(body.replace('ad80', 'ad81')))).toBe('SignatureDoesNotMatch');
    expect(await refusal(decode(body.replace(/;chunk-signature=[0-9a-f]+/, '')))).toBe(
      'SignatureDoesNotMatch',
    );
    expect(await refusal(decode(body.slice(0, -100)))).toBe('IncompleteBody');
    expect(await refusal(decode(body.slice(0, 66_000)))).toBe('IncompleteBody');
  });
  const unsigned = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
  test('trailers of unsigned chunks', async () => {
    const text = '5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n';
    const declared = ['x-amz-checksum-crc32'];
    expect(await decode(text, unsigned, declared, 3)).toBe('hello world|{"x-amz-checksum-crc32":"DUoRhQ=="}');
    expect(await refusal(decode(text, unsigned))).toBe('MalformedTrailerError');
    expect(await refusal(decode('0\r\n\r\n', unsigned, declared))).toBe('MalformedTrailerError');
    expect(await refusal(decode(`${text}more`, unsigned, declared))).toBe('InvalidRequest');
    expect(await refusal(decode('5\r\nhello!\r\n0\r\n\r\n', unsigned))).toBe('InvalidRequest');
    expect(await refusal(decode('zz\r\nhello', unsigned))).toBe('InvalidRequest');
  });
});
