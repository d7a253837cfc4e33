import { createHash } from 'node:crypto';
import { algorithmOfHeader, checksumAlgorithms, createHasher, type ChecksumAlgorithm } from './checksums.js';
import { decodeChunked, type ChunkedTrailers } from './chunked.js';
import { S3Error } from './errors.js';
import type { VerifiedSignature } from './signature.js';

/**
 * The body of a request, read once: the framing taken off, the length and every digest that the
 * client gave compared. Nothing that fails here becomes an object, because the caller commits only
 * after `receive` has returned.
 */
export interface Incoming {
  headers: Record<string, string | undefined>;
  body: AsyncIterable<Buffer>;
  signature: VerifiedSignature;
}

export interface Received {
  size: number;
  md5: Buffer;
  /** The one that came with it, or S3's default, which was not `sent`. */
  checksum: { algorithm: ChecksumAlgorithm; value: string };
  sent: boolean;
}

/** What S3 computes for an object that comes without a checksum. */
export const defaultChecksum = 'CRC64NVME' satisfies ChecksumAlgorithm;

const maxPut = 5 * 1024 ** 3;

interface Expected {
  length: number;
  chunked: boolean;
  md5?: Buffer;
  sha256?: string;
  checksum?: { algorithm: ChecksumAlgorithm; value?: string };
  trailers: string[];
}

function digestOf(header: string, text: string, bytes: number): Buffer {
  const decoded = Buffer.from(text, 'base64');
  if (decoded.length !== bytes || decoded.toString('base64') !== text)
    throw new S3Error(
      'InvalidDigest',
      `The value of ${header}, ${JSON.stringify(text)}, is not a valid digest.`,
    );
  return decoded;
}

function expectedOf({ headers, signature }: Incoming): Expected {
  const { payload } = signature;
  const chunked = payload.startsWith('STREAMING-');
  if (chunked && !/^STREAMING-(UNSIGNED-PAYLOAD-TRAILER|AWS4-HMAC-SHA256-PAYLOAD(-TRAILER)?)$/.test(payload))
    throw new S3Error(
      'NotImplemented',
      `x-amz-content-sha256: ${payload} is not implemented by this server.`,
    );
  const lengthText = headers[chunked ? 'x-amz-decoded-content-length' : 'content-length'] ?? '';
  if (!/^\d+$/.test(lengthText))
    throw new S3Error(
      'MissingContentLength',
      `You must provide the ${chunked ? 'x-amz-decoded-content-length' : 'Content-Length'} HTTP header.`,
    );
  const length = Number(lengthText);
  if (length > maxPut)
    throw new S3Error('EntityTooLarge', `A single PUT may hold ${maxPut} bytes; ${length} were announced.`);

  const trailers = (headers['x-amz-trailer'] ?? '')
    .toLowerCase()
    .split(',')
    .map((t) => t.trim())
    .filter(Boolean);
  const given = checksumAlgorithms.filter((a) => headers[`x-amz-checksum-${a.toLowerCase()}`] !== undefined);
  const trailing = trailers.map(algorithmOfHeader).filter((a) => a !== undefined);
  if (given.length + trailing.length > 1)
    throw new S3Error(
      'InvalidRequest',
      'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.',
    );
  const [inHeader, inTrailer] = [given[0], trailing[0]];
  const md5 = headers['content-md5'];
  return {
    length,
    chunked,
    trailers,
    md5: md5 === undefined ? undefined : digestOf('Content-MD5', md5, 16),
    sha256: /^[0-9a-f]{64}$/.test(payload) ? payload : undefined,
    checksum: inHeader
      ? { algorithm: inHeader, value: headers[`x-amz-checksum-${inHeader.toLowerCase()}`] }
      : inTrailer && { algorithm: inTrailer },
  };
}

export async function receive(
  incoming: Incoming,
  sink: (bytes: Buffer) => Promise<void> | void,
): Promise<Received> {
  const expected = expectedOf(incoming);
  if (!expected.chunked && expected.sha256 === undefined && incoming.signature.payload !== 'UNSIGNED-PAYLOAD')
    throw new S3Error(
      'InvalidArgument',
      'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-..., or a valid sha256 value.',
    );
  const trailers: ChunkedTrailers = {};
  const source = expected.chunked
    ? decodeChunked(
        incoming.body,
        { signature: incoming.signature, declaredTrailers: expected.trailers },
        trailers,
      )
    : incoming.body;

  const md5 = createHash('md5');
  const sha256 = expected.sha256 === undefined ? undefined : createHash('sha256');
  const hasher = createHasher(expected.checksum?.algorithm ?? defaultChecksum);
  let size = 0;
  for await (const bytes of source) {
    size += bytes.length;
    if (size > expected.length) throw tooMuch(expected.length);
    md5.update(bytes);
    sha256?.update(bytes);
    hasher.update(bytes);
    await sink(bytes);
  }
  if (size !== expected.length)
    throw new S3Error('IncompleteBody', `The body has ${size} bytes, ${expected.length} were announced.`);

  const digest = md5.digest();
  if (expected.md5 && !digest.equals(expected.md5))
    throw new S3Error('BadDigest', 'The Content-MD5 you specified did not match what we received.');
  if (sha256 && sha256.digest('hex') !== expected.sha256)
    throw new S3Error(
      'XAmzContentSHA256Mismatch',
      "The provided 'x-amz-content-sha256' header does not match what was computed.",
    );
  const computed = hasher.digest();
  if (!expected.checksum)
    return {
      size,
      md5: digest,
      checksum: { algorithm: defaultChecksum, value: computed.toString('base64') },
      sent: false,
    };

  const { algorithm } = expected.checksum;
  const name = `x-amz-checksum-${algorithm.toLowerCase()}`;
  const text = expected.checksum.value ?? trailers[name] ?? '';
  if (!digestOf(name, text, computed.length).equals(computed))
    throw new S3Error('BadDigest', `The ${algorithm} you specified did not match the calculated checksum.`);
  return { size, md5: digest, checksum: { algorithm, value: text }, sent: true };
}

const tooMuch = (announced: number): S3Error =>
  new S3Error('IncompleteBody', `The body is longer than the ${announced} bytes that were announced.`);

/** A small body, such as an XML document, in one piece. */
export async function receiveText(incoming: Incoming, maxBytes = 2 * 1024 * 1024): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  await receive(incoming, (bytes) => {
    size += bytes.length;
    if (size > maxBytes) throw new S3Error('EntityTooLarge', `The document may have ${maxBytes} bytes.`);
    parts.push(bytes);
  });
  return Buffer.concat(parts).toString();
}
