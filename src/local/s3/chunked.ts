import { createHash } from 'node:crypto';
import { S3Error } from './errors.js';
import { equalSignature, hmac, sha256Hex, type VerifiedSignature } from './signature.js';

/**
 * The aws-chunked body: `<hex size>[;chunk-signature=<sig>]\r\n<bytes>\r\n ... 0\r\n[<trailers>]\r\n`.
 * It is S3's own framing inside the HTTP body, whatever HTTP's own framing is. A store that keeps
 * these bytes instead of what they carry corrupts every streamed upload without a word.
 */
export interface ChunkedOptions {
  signature: VerifiedSignature;
  /** Names declared in x-amz-trailer; a trailer that was not declared is refused. */
  declaredTrailers: string[];
}

export interface ChunkedTrailers {
  [name: string]: string;
}

const maxLine = 16 * 1024;
const emptyHash = sha256Hex('');

/** Reads lines and counted bytes from a stream of buffers. */
class ByteReader {
  private held: Buffer = Buffer.alloc(0);
  private readonly source: AsyncIterator<Buffer>;
  constructor(source: AsyncIterable<Buffer>) {
    this.source = source[Symbol.asyncIterator]();
  }

  /** Lets go of the source without ending it: the connection may be kept for the error reply. */
  async release(): Promise<void> {
    await this.source.return?.();
  }

  private async more(): Promise<boolean> {
    const next = await this.source.next();
    if (next.done) return false;
    this.held = this.held.length === 0 ? next.value : Buffer.concat([this.held, next.value]);
    return true;
  }

  async line(): Promise<string> {
    for (;;) {
      const at = this.held.indexOf('\r\n');
      if (at >= 0) {
        const line = this.held.toString('latin1', 0, at);
        this.held = this.held.subarray(at + 2);
        return line;
      }
      if (this.held.length > maxLine)
        throw new S3Error('InvalidRequest', 'A line of the aws-chunked body is too long.');
      if (!(await this.more())) throw incomplete();
    }
  }

  /** At least one byte, at most `limit`. */
  async some(limit: number): Promise<Buffer> {
    if (this.held.length === 0 && !(await this.more())) throw incomplete();
    const part = this.held.subarray(0, limit);
    this.held = this.held.subarray(part.length);
    return part;
  }

  async atEnd(): Promise<boolean> {
    while (this.held.length === 0) if (!(await this.more())) return true;
    return false;
  }
}

const incomplete = (): S3Error =>
  new S3Error('IncompleteBody', 'The aws-chunked body ended before its last chunk.');

const badSignature = (what: string): S3Error =>
  new S3Error('SignatureDoesNotMatch', `The signature of ${what} does not match what was received.`);

/** Yields what the chunks carry; the trailers are in `trailers` once it has ended. */
export async function* decodeChunked(
  source: AsyncIterable<Buffer>,
  options: ChunkedOptions,
  trailers: ChunkedTrailers,
): AsyncGenerator<Buffer> {
  const reader = new ByteReader(source);
  try {
    yield* decode(reader, options, trailers);
  } finally {
    await reader.release();
  }
}

async function* decode(
  reader: ByteReader,
  { signature, declaredTrailers }: ChunkedOptions,
  trailers: ChunkedTrailers,
): AsyncGenerator<Buffer> {
  const signed = signature.payload.startsWith('STREAMING-AWS4-HMAC-SHA256-PAYLOAD');
  const withTrailer = signature.payload.endsWith('-TRAILER');
  const sign = (kind: string, ...rest: string[]): string =>
    hmac(
      signature.signingKey,
      [kind, signature.timestamp, signature.scope, previous, ...rest].join('\n'),
    ).toString('hex');
  let previous = signature.signature;

  for (let index = 0; ; index++) {
    const header = /^([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(await reader.line());
    if (!header)
      throw new S3Error('InvalidRequest', `Chunk ${index} of the aws-chunked body has no valid size line.`);
    const size = parseInt(header[1] ?? '', 16);
    const hash = signed ? createHash('sha256') : undefined;
    for (let left = size; left > 0;) {
      const part = await reader.some(left);
      left -= part.length;
      hash?.update(part);
      yield part;
    }
    if (hash) {
      const expected = sign('AWS4-HMAC-SHA256-PAYLOAD', emptyHash, hash.digest('hex'));
      if (header[2] === undefined || !equalSignature(expected, header[2]))
        throw badSignature(`chunk ${index}`);
      previous = expected;
    }
    if (size === 0) break;
    if ((await reader.line()) !== '')
      throw new S3Error('InvalidRequest', `Chunk ${index} is longer than its size line says.`);
  }

  // What follows the last chunk: trailers if any, then an empty line (some clients leave the last one out).
  let trailerText = '';
  let trailerSignature: string | undefined;
  while (!(await reader.atEnd())) {
    const line = await reader.line();
    if (line === '') break;
    const at = line.indexOf(':');
    const name = line.slice(0, at).trim().toLowerCase();
    const value = line.slice(at + 1).trim();
    if (at <= 0) throw new S3Error('MalformedTrailerError', `${JSON.stringify(line)} is not a trailer.`);
    if (name === 'x-amz-trailer-signature') {
      trailerSignature = value;
      continue;
    }
    if (!withTrailer || !declaredTrailers.includes(name))
      throw new S3Error('MalformedTrailerError', `The trailer ${name} was not declared in x-amz-trailer.`);
    trailers[name] = value;
    trailerText += `${name}:${value}\n`;
  }
  if (!(await reader.atEnd()))
    throw new S3Error('InvalidRequest', 'Bytes follow the end of the aws-chunked body.');
  const missing = declaredTrailers.filter((name) => withTrailer && !(name in trailers));
  if (missing.length > 0)
    throw new S3Error('MalformedTrailerError', `The trailer ${missing.join(', ')} did not come.`);
  if (signed && withTrailer) {
    const expected = sign('AWS4-HMAC-SHA256-TRAILER', sha256Hex(trailerText));
    if (trailerSignature === undefined || !equalSignature(expected, trailerSignature))
      throw badSignature('the trailers');
  }
}
