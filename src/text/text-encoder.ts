/** Plain text to ids, piece by piece, for one tokenizer.json. Lives in a worker thread. */
import { nfcNormalizer, type Tokenizer as Encoder } from 'tokenizers';
import { z } from 'zod';
import { ConfigError } from '../platform/errors.js';
import { tokenBytes, type TokenBytes } from './byte-level.js';
import { CodePoints } from './code-points.js';
import { Nfc } from './nfc.js';
import { digitsOf, PreTokens } from './pre-tokens.js';
import { buildEncoder, plainText, type TokenizerFile } from './tokenizer-file.js';
import { TextError } from './utf8.js';
import { idsOf, refuseReserved, SEPARATOR, Words } from './words.js';

/** Ids of one text that comes in pieces. A piece must not end inside a surrogate pair. */
export interface TextSession {
  /** Ids that are certain by now; all that are left when `last`. @throws LonghaulError SPECIAL_TOKEN_IN_TEXT */
  push(piece: string, last: boolean): Promise<Uint32Array>;
}

export interface TextEncoding {
  open(signal: AbortSignal): TextSession;
  /** Undefined for tokenizers that are not byte-level; the library decodes those. */
  bytes: TokenBytes | undefined;
}

const splitSequence = z.looseObject({
  type: z.literal('Sequence'),
  pretokenizers: z.tuple([
    z.looseObject({ type: z.literal('Split'), pattern: z.strictObject({ Regex: z.string() }) }),
    z.looseObject({
      type: z.literal('ByteLevel'),
      add_prefix_space: z.literal(false),
      use_regex: z.literal(false),
    }),
  ]),
});
const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
const JOINED = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { String: SEPARATOR }, behavior: 'Isolated', invert: false },
    BYTE_LEVEL,
  ],
};

/** `window`: UTF-16 units encoded at once of a very long pre-token. @throws ConfigError */
export async function openTextEncoding(
  path: string,
  file: TokenizerFile,
  window?: number,
): Promise<TextEncoding> {
  const { file: plain, reserved } = plainText(file);
  const bytes = tokenBytes(file.model.vocab, file.added_tokens);
  const digits = walkedDigits(file);
  if (digits === undefined || bytes === undefined) {
    const whole = buildEncoder(path, plain);
    return {
      bytes: file.decoder?.type === 'ByteLevel' ? bytes : undefined,
      open: () => new WholeText(whole, reserved),
    };
  }
  const joined = buildEncoder(path, { ...plain, normalizer: null, pre_tokenizer: JOINED });
  let alone: Encoder | undefined;
  const single = () =>
    (alone ??= buildEncoder(path, { ...plain, normalizer: null, pre_tokenizer: BYTE_LEVEL }));
  const [separator, ...more] = await idsOf(joined, SEPARATOR);
  if (separator === undefined || more.length > 0) {
    throw new ConfigError(`${path} has no token for the byte 0, so it is not a whole byte-level BPE`);
  }
  const words = new Words({ joined, single, separator, starts: bytes.starts, reserved }, window);
  const preTokens = new PreTokens(new CodePoints(digits.pattern), digits.digits);
  const nfc = file.normalizer?.type === 'NFC' ? nfcNormalizer() : undefined;
  return {
    bytes,
    open: (signal) => new WalkedText(preTokens, words, nfc === undefined ? undefined : new Nfc(nfc), signal),
  };
}

/** Undefined when the library has to do it all: another pre-tokenizer, normalizer or kind of BPE. */
function walkedDigits(file: TokenizerFile): { pattern: string; digits: number } | undefined {
  const { model, normalizer } = file;
  const split = splitSequence.safeParse(file.pre_tokenizer);
  if (!split.success || (normalizer && normalizer.type !== 'NFC')) return undefined;
  if (model.continuing_subword_prefix || model.end_of_word_suffix || model.byte_fallback === true) {
    return undefined;
  }
  const pattern = split.data.pretokenizers[0].pattern.Regex;
  const digits = digitsOf(pattern);
  return digits === undefined ? undefined : { pattern, digits };
}

class WalkedText implements TextSession {
  private carry = '';
  private parts: string[] = [];
  private length = 0;

  constructor(
    private readonly preTokens: PreTokens,
    private readonly words: Words,
    private readonly nfc: Nfc | undefined,
    private readonly signal: AbortSignal,
  ) {}

  async push(piece: string, last: boolean): Promise<Uint32Array> {
    const normal = this.nfc === undefined ? piece : this.nfc.push(piece, last);
    this.parts.push(normal);
    this.length += normal.length;
    // A pre-token that goes on and on is walked again only when it has doubled: the whole is linear.
    if (!last && this.length < this.carry.length) return new Uint32Array(0);
    const text = this.carry + this.parts.join('');
    this.parts = [];
    this.length = 0;
    const words: string[] = [];
    let at = 0;
    while (at < text.length) {
      const end = this.preTokens.end(text, at, last);
      if (end === -1) break;
      words.push(text.slice(at, end));
      at = end;
    }
    this.carry = text.slice(at);
    return this.words.encode(words, this.signal);
  }
}

/** White space that the library's regular expressions may need too many steps for; they would end the process. */
const WHITE_SPACE_LIMIT = 1_000_000;

/** A text that the library sees as a whole, because nothing is known about where it may be cut. */
class WholeText implements TextSession {
  private parts: string[] = [];

  constructor(
    private readonly encoder: Encoder,
    private readonly reserved: ReadonlySet<number>,
  ) {}

  async push(piece: string, last: boolean): Promise<Uint32Array> {
    this.parts.push(piece);
    if (!last) return new Uint32Array(0);
    const text = this.parts.join('');
    this.parts = [];
    for (const { 0: run, index } of text.matchAll(/\s+/gu)) {
      if (run.length > WHITE_SPACE_LIMIT) {
        throw new TextError(
          `has ${run.length} characters of white space in a row at UTF-16 unit ${index}, and this model's tokenizer takes ${WHITE_SPACE_LIMIT}; shorten them`,
          index,
        );
      }
    }
    const ids = Uint32Array.from(await idsOf(this.encoder, text));
    refuseReserved(ids, this.reserved);
    return ids;
  }
}
