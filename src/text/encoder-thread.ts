/** One encode-worker as seen from the thread that uses it: calls, each with its answer. */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import type { Operation, Operations, Reply, Request, ThreadError } from './encode-worker.js';
import { TextError } from './utf8.js';

// Threads run compiled code, also where this file runs from source.
const folder = import.meta.url.endsWith('.ts') ? '../../dist/text/' : './';
const script = fileURLToPath(new URL(`${folder}encode-worker.js`, import.meta.url));

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: Error) => void;
}

export class EncoderThread {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  /** Why it can be asked no more. */
  private ended: Error | undefined;

  constructor(path: string, onEnd: () => void) {
    this.worker = new Worker(script, { workerData: { path }, name: 'longhaul-encode' });
    // It keeps the process alive only while an answer is awaited.
    this.worker.unref();
    this.worker.on('message', (reply: Reply) => {
      const waiting = this.take(reply.id);
      if ('value' in reply) waiting?.resolve(reply.value as never);
      else waiting?.reject(toError(reply.error));
    });
    const end = (cause: unknown) => {
      this.ended ??= new LonghaulError(
        'TOKENIZER_THREAD',
        'the tokenizer thread ended; load the tokenizer again',
        {
          cause,
        },
      );
      for (const id of [...this.waiting.keys()]) this.take(id)?.reject(this.ended);
      onEnd();
    };
    this.worker.on('error', end);
    this.worker.on('exit', (code) => {
      end(`exit code ${code}`);
    });
  }

  call<O extends Operation>(op: O, ask: Operations[O]['ask']): Promise<Operations[O]['answer']> {
    return new Promise((resolve, reject) => {
      if (this.ended !== undefined) {
        reject(this.ended);
        return;
      }
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.worker.ref();
      this.worker.postMessage({ ...ask, id, op });
    });
  }

  /** Forgets a session, finished or not. */
  drop(session: number): void {
    this.worker.postMessage({ op: 'drop', session } satisfies Request);
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private take(id: number): Waiting | undefined {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (this.waiting.size === 0) this.worker.unref();
    return waiting;
  }
}

function toError({ code, message, config, offset }: ThreadError): Error {
  if (config) return new ConfigError(message);
  return offset === undefined ? new LonghaulError(code, message) : new TextError(message, offset);
}
