/** Threads that encode texts side by side, one text at a time each. */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { EncoderThread } from './encoder-thread.js';
import { TextError } from './utf8.js';

/** UTF-16 units that travel in one message: about a millisecond of either thread. */
const PIECE = 1 << 17;
/** The library works on Node's pool of four threads, which file reads share: more would wait for each other. */
const MOST_THREADS = 4;
/** Loading a tokenizer takes about a second, so a text waits this long before another thread starts for it. */
const PATIENCE_MS = 250;
/** A thread holds a few hundred megabytes; it ends when it had nothing to do for so long. */
const IDLE_MS = 10_000;

type Text = string | Iterable<string> | AsyncIterable<string>;

export class EncoderPool {
  private readonly threads = new Set<EncoderThread>();
  private readonly idle: EncoderThread[] = [];
  private readonly queue: ((thread: EncoderThread | Error) => void)[] = [];
  private readonly endings = new Map<EncoderThread, NodeJS.Timeout>();
  private sessions = 0;

  constructor(
    private readonly path: string,
    private readonly most = Math.min(MOST_THREADS, availableParallelism()),
  ) {}

  /** Runs `work` with a thread that nobody else uses meanwhile. */
  async withThread<T>(work: (thread: EncoderThread) => Promise<T>): Promise<T> {
    const thread = await this.acquire();
    try {
      return await work(thread);
    } finally {
      this.release(thread);
    }
  }

  /**
   * Ids of a text, piece by piece, as they become certain. At most two pieces are under way.
   * @throws TextError for half a surrogate pair, naming its UTF-16 index.
   */
  async *encode(text: Text, signal?: AbortSignal): AsyncGenerator<Uint32Array, void> {
    signal?.throwIfAborted();
    const thread = await this.acquire();
    const session = this.sessions++;
    let ahead: Promise<Uint32Array> | undefined;
    try {
      for await (const { piece, last } of pieces(text)) {
        signal?.throwIfAborted();
        const sent = thread.call('push', { session, text: piece, last });
        // It is awaited below, unless the one before it fails.
        sent.catch(() => undefined);
        if (ahead !== undefined) yield await ahead;
        ahead = sent;
      }
      if (ahead !== undefined) yield await ahead;
      signal?.throwIfAborted();
    } finally {
      thread.drop(session);
      this.release(thread);
    }
  }

  async close(): Promise<void> {
    for (const timer of this.endings.values()) clearTimeout(timer);
    await Promise.all([...this.threads].map((thread) => thread.close()));
  }

  private async acquire(): Promise<EncoderThread> {
    const free = this.idle.pop();
    if (free !== undefined) {
      clearTimeout(this.endings.get(free));
      this.endings.delete(free);
      return free;
    }
    const found = new Promise<EncoderThread>((resolve, reject) => {
      this.queue.push((thread) => {
        if (thread instanceof Error) reject(thread);
        else resolve(thread);
      });
    });
    if (this.threads.size === 0) this.start();
    else if (this.threads.size < this.most) {
      void sleep(PATIENCE_MS, undefined, { ref: false }).then(() => {
        if (this.queue.length > 0 && this.threads.size < this.most) this.start();
      });
    }
    return found;
  }

  private start(): void {
    const thread: EncoderThread = new EncoderThread(this.path, () => {
      this.threads.delete(thread);
      const at = this.idle.indexOf(thread);
      if (at !== -1) this.idle.splice(at, 1);
    });
    this.threads.add(thread);
    thread.call('load', {}).then(
      () => {
        this.release(thread);
      },
      (error: unknown) => {
        // With no thread left nobody would serve the queue.
        this.threads.delete(thread);
        void thread.close();
        if (this.threads.size > 0) return;
        for (const waiting of this.queue.splice(0)) {
          waiting(error instanceof Error ? error : new Error(String(error)));
        }
      },
    );
  }

  private release(thread: EncoderThread): void {
    if (!this.threads.has(thread)) {
      // It ended under its user; the next in the queue gets a new one.
      if (this.queue.length > 0 && this.threads.size === 0) this.start();
      return;
    }
    const next = this.queue.shift();
    if (next !== undefined) {
      next(thread);
      return;
    }
    this.idle.push(thread);
    const timer = setTimeout(() => void thread.close(), IDLE_MS);
    this.endings.set(thread, timer.unref());
  }
}

/** Pieces that are short and do not part surrogate pairs; the last is marked. */
async function* pieces(text: Text): AsyncGenerator<{ piece: string; last: boolean }> {
  let carry = '';
  let offset = 0;
  for await (const chunk of typeof text === 'string' ? [text] : text) {
    const all = carry + chunk;
    let at = 0;
    // One unit at least is kept: it may be the first half of a pair, and the last piece is not empty.
    while (all.length - at > PIECE) {
      const end = at + PIECE - (isLead(all.charCodeAt(at + PIECE - 1)) ? 1 : 0);
      const piece = checked(all.slice(at, end), offset + at);
      yield { piece, last: false };
      at = end;
    }
    carry = all.slice(at);
    offset += at;
  }
  yield { piece: checked(carry, offset), last: true };
}

function isLead(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function checked(piece: string, offset: number): string {
  const at = piece.search(/\p{Surrogate}/u);
  if (at === -1) return piece;
  throw new TextError(
    `contains half a surrogate pair at UTF-16 unit ${offset + at}, which is not text`,
    offset + at,
  );
}
