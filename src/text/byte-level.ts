/**
 * The bytes of byte-level BPE tokens. Their spelling in tokenizer.json stands one character for
 * each byte (GPT-2's alphabet), so decoding is joining bytes: exact, and free of the clean-up that
 * `clean_up_tokenization_spaces` asks for, which drops spaces before punctuation.
 */

/** Byte by character of the alphabet: printable bytes are themselves, the others U+0100 and up. */
const BYTE_OF = new Map<string, number>();
const isPrintable = (byte: number) =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
for (let byte = 0, next = 0x100; byte < 256; byte++) {
  BYTE_OF.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte);
}

/** Tokens' bytes one after the other, so that the table can be handed between threads. */
export interface TokenBytes {
  bytes: Uint8Array;
  /** [ids + 1]: token i is bytes[starts[i]] up to bytes[starts[i + 1]]; empty where there is no token. */
  starts: Uint32Array;
  /** [ids]: 1 for tokens that are no text, such as `<|eot_id|>`. */
  special: Uint8Array;
}

/** Undefined when a token of the vocabulary is not spelt in the alphabet. */
export function tokenBytes(
  vocab: Readonly<Record<string, number>>,
  added: readonly { id: number; content: string; special: boolean }[],
): TokenBytes | undefined {
  const spelt: Uint8Array[] = [];
  const specials = new Set<number>();
  const isAdded = new Set(added.map((token) => token.id));
  for (const [token, id] of Object.entries(vocab)) {
    if (isAdded.has(id)) continue;
    const bytes = new Uint8Array(token.length);
    for (let i = 0; i < token.length; i++) {
      const byte = BYTE_OF.get(token.charAt(i));
      if (byte === undefined) return undefined;
      bytes[i] = byte;
    }
    spelt[id] = bytes;
  }
  for (const { id, content, special } of added) {
    spelt[id] = Buffer.from(content);
    if (special) specials.add(id);
  }
  const starts = new Uint32Array(spelt.length + 1);
  for (let id = 0; id < spelt.length; id++) starts[id + 1] = (starts[id] ?? 0) + (spelt[id]?.length ?? 0);
  const bytes = new Uint8Array(starts[spelt.length] ?? 0);
  const special = new Uint8Array(spelt.length);
  for (let id = 0; id < spelt.length; id++) {
    bytes.set(spelt[id] ?? [], starts[id]);
    if (specials.has(id)) special[id] = 1;
  }
  return { bytes, starts, special };
}

/** The bytes that tokens stand for; special tokens stand for none, as do ids that are no tokens. */
export function decodeBytes({ bytes, starts, special }: TokenBytes, ids: Iterable<number>): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const id of ids) {
    if (id + 1 < starts.length && special[id] === 0) parts.push(bytes.subarray(starts[id], starts[id + 1]));
  }
  return Buffer.concat(parts);
}

/**
 * Text of tokens as they come. A character whose bytes are spread over tokens appears with the last
 * of them; bytes that are not UTF-8 become U+FFFD.
 */
export class AnswerDecoder {
  private readonly utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly table: TokenBytes) {}

  write(ids: Iterable<number>): string {
    return this.utf8.decode(decodeBytes(this.table, ids), { stream: true });
  }

  /** What is left of a character that never became whole. */
  end(): string {
    return this.utf8.decode();
  }
}
