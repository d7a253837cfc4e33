/** Bytes of a named character set to text, refusing what is not in it. */
import { SourceError } from './source-error.js';
import { TextError, Utf8Decoder } from './utf8.js';

/** Where HTML must name its character set. */
const META_BYTES = 1024;

export interface CharsetHints {
  /** What the server says, as a `content-type`. */
  contentType?: string;
  /** HTML may name it in a `meta` tag. */
  html: boolean;
}

interface Decoder {
  write(chunk: Uint8Array): string;
  end(): string;
}

/**
 * By the byte order mark, else what the server says, else a `meta` tag, else UTF-8.
 * @throws SourceError naming the character set, and for UTF-8 the offset.
 */
export async function* decodeText(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  hints: CharsetHints,
): AsyncGenerator<string> {
  let head: Buffer | undefined = Buffer.alloc(0);
  let decoder: Decoder | undefined;
  try {
    for await (const chunk of chunks) {
      if (decoder !== undefined) {
        yield decoder.write(chunk);
        continue;
      }
      head = Buffer.concat([head ?? Buffer.alloc(0), chunk]);
      if (head.length < META_BYTES) continue;
      decoder = decoderOf(charsetOf(head, hints), name);
      yield decoder.write(head);
      head = undefined;
    }
    decoder ??= decoderOf(charsetOf(head ?? Buffer.alloc(0), hints), name);
    if (head !== undefined) yield decoder.write(head);
    yield decoder.end();
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    throw new SourceError('DOCUMENT_NOT_UTF8', `${name} ${error.message}`, { cause: error });
  }
}

function charsetOf(head: Buffer, { contentType, html }: CharsetHints): string {
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) return 'utf-8';
  if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le';
  if (head[0] === 0xfe && head[1] === 0xff) return 'utf-16be';
  const said = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(contentType ?? '')?.[1];
  if (said !== undefined) return said;
  if (!html) return 'utf-8';
  const start = head.toString('latin1', 0, META_BYTES);
  const meta = /<meta[^>]{0,200}?charset\s*=\s*["']?([^\s"'/>;]+)/i.exec(start)?.[1] ?? 'utf-8';
  // A tag that was read byte by byte cannot be in UTF-16.
  return /^utf-?16/i.test(meta) ? 'utf-8' : meta;
}

function decoderOf(charset: string, name: string): Decoder {
  let decoder: InstanceType<typeof TextDecoder>;
  try {
    decoder = new TextDecoder(charset, { fatal: true });
  } catch (cause) {
    throw new SourceError(
      'DOCUMENT_CHARSET',
      `${name} says that its character set is ${JSON.stringify(charset.slice(0, 40))}, which is not known; convert it to UTF-8`,
      { cause },
    );
  }
  if (decoder.encoding === 'utf-8') return new Utf8Decoder();
  const decode = (chunk?: Uint8Array): string => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch (cause) {
      const message = `${name} has bytes that are not ${decoder.encoding}; convert it to UTF-8`;
      throw new SourceError('DOCUMENT_CHARSET', message, { cause });
    }
  };
  return { write: decode, end: () => decode() };
}
