/** Strict UTF-8 decoding of a stream that says where bad bytes are. */
import { LonghaulError } from '../platform/errors.js';

/** Bytes or escapes that are not text. `offset` counts bytes of the source. */
export class TextError extends LonghaulError {
  constructor(
    message: string,
    readonly offset: number,
  ) {
    super('BAD_TEXT', message);
  }
}

/** Decodes chunk by chunk; a character may be split between chunks. A leading byte order mark is dropped. */
export class Utf8Decoder {
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  private carry: Uint8Array = new Uint8Array(0);
  private offset = 0;
  private first = true;

  /** @throws TextError naming the byte offset. */
  write(chunk: Uint8Array): string {
    return this.decode(this.carry.length === 0 ? chunk : Buffer.concat([this.carry, chunk]), false);
  }

  /** @throws TextError when the stream ends inside a character. */
  end(): string {
    return this.decode(this.carry, true);
  }

  private decode(bytes: Uint8Array, last: boolean): string {
    const { valid, incomplete } = scan(bytes);
    if (valid < bytes.length && (last || !incomplete)) {
      const byte = (bytes[valid] ?? 0).toString(16).padStart(2, '0');
      throw new TextError(
        `is not UTF-8: byte 0x${byte} at offset ${this.offset + valid}; convert it to UTF-8`,
        this.offset + valid,
      );
    }
    let text = this.decoder.decode(bytes.subarray(0, valid));
    this.carry = bytes.slice(valid);
    this.offset += valid;
    if (this.first && text.length > 0) {
      this.first = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    return text;
  }
}

/** The length of the valid prefix, and whether what follows may be the beginning of a character. */
function scan(bytes: Uint8Array): { valid: number; incomplete: boolean } {
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at] ?? 0;
    if (lead < 0x80) {
      at += 1;
      continue;
    }
    const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4) return { valid: at, incomplete: false };
    for (let i = 1; i < length; i++) {
      const byte = bytes[at + i];
      if (byte === undefined) return { valid: at, incomplete: true };
      // Overlong forms, surrogates and code points above U+10FFFF show in the second byte.
      const low = i > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
      const high = i > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
      if (byte < low || byte > high) return { valid: at, incomplete: false };
    }
    at += length;
  }
  return { valid: at, incomplete: false };
}

/** Half of a surrogate pair, which `\ud800` in JSON can produce and UTF-8 cannot hold. */
export function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}
