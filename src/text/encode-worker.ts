/**
 * A thread that turns text into ids. The library's calls work on threads of their own, but what
 * comes back from them (ids as objects, their release) would hold up the thread that asked.
 */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import type { Tokenizer as Encoder } from 'tokenizers';
import { ConfigError, describeError } from '../platform/errors.js';
import type { TokenBytes } from './byte-level.js';
import { framer, type Frame } from './frames.js';
import { openTextEncoding, type TextSession } from './text-encoder.js';
import { buildEncoder, parseTokenizerFile, readTokenizerFile } from './tokenizer-file.js';
import { TextError } from './utf8.js';

/** What the thread can be asked for, and what it answers with. */
export interface Operations {
  /** Once the file is loaded; its sha256. */
  load: { ask: object; answer: string };
  /** A piece of the text of a session; a session opens with its first piece and ends with its last. */
  push: { ask: { session: number; text: string; last: boolean }; answer: Uint32Array };
  /** A template's text taken apart. */
  frame: { ask: { text: string }; answer: Frame };
  /** The id of a token by its spelling; null: there is none. */
  token: { ask: { content: string }; answer: number | null };
  /** The bytes of all tokens; null for tokenizers that are not byte-level. */
  bytes: { ask: object; answer: TokenBytes | null };
  /** The library's text of ids, without special tokens. */
  decode: { ask: { ids: number[] }; answer: string };
}
export type Operation = keyof Operations;
export type Request =
  | { [O in Operation]: { id: number; op: O } & Operations[O]['ask'] }[Operation]
  | { op: 'drop'; session: number };
export type Reply =
  { id: number; value: Operations[Operation]['answer'] } | { id: number; error: ThreadError };
export interface ThreadError {
  code: string;
  message: string;
  /** Of a ConfigError. */
  config: boolean;
  /** Of a TextError. */
  offset: number | undefined;
}

const port = parentPort;
if (port === null) throw new Error('encode-worker runs as a worker thread');
const { path } = workerData as { path: string };

interface OpenSession {
  text: TextSession;
  controller: AbortController;
}
const sessions = new Map<number, OpenSession>();
const loaded = load();
// Whoever asks for something hears of it.
loaded.catch(() => undefined);

async function load() {
  const bytes = await readTokenizerFile(path);
  const file = parseTokenizerFile(path, bytes);
  const encoding = await openTextEncoding(path, file);
  const never = new AbortController().signal;
  let full: Encoder | undefined;
  return {
    sha256: createHash('sha256').update(bytes).digest('hex'),
    encoding,
    frame: framer(path, file, (text) => encoding.open(never).push(text, true)),
    token: (content: string) =>
      file.added_tokens.find((token) => token.content === content)?.id ?? file.model.vocab[content] ?? null,
    decode: (ids: number[]) => (full ??= buildEncoder(path, file)).decode(ids, true),
  };
}

async function answer(request: Exclude<Request, { op: 'drop' }>): Promise<Operations[Operation]['answer']> {
  const { sha256, encoding, frame, token, decode } = await loaded;
  switch (request.op) {
    case 'load':
      return sha256;
    case 'push': {
      const { session, text, last } = request;
      let open = sessions.get(session);
      if (open === undefined) {
        const controller = new AbortController();
        open = { text: encoding.open(controller.signal), controller };
        sessions.set(session, open);
      }
      return open.text.push(text, last);
    }
    case 'frame':
      return frame(request.text);
    case 'token':
      return token(request.content);
    case 'bytes':
      return encoding.bytes ?? null;
    case 'decode':
      return decode(request.ids);
  }
}

port.on('message', (request: Request) => {
  if (request.op === 'drop') {
    sessions.get(request.session)?.controller.abort();
    sessions.delete(request.session);
    return;
  }
  const { id } = request;
  answer(request).then(
    (value) => {
      port.postMessage(
        { id, value } satisfies Reply,
        value instanceof Uint32Array ? [value.buffer as ArrayBuffer] : [],
      );
    },
    (error: unknown) => {
      const { code, message } = describeError(error);
      port.postMessage({
        id,
        error: {
          code,
          message,
          config: error instanceof ConfigError,
          offset: error instanceof TextError ? error.offset : undefined,
        },
      } satisfies Reply);
    },
  );
});
