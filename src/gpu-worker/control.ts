/**
 * The messages of a generation: one stream from the leader, one from the followers. Streams keep
 * order and can be read again after a lost connection; protocol.ts stays right without either.
 */
import type { Redis } from 'ioredis';
import { cohortKeys } from '../platform/keys.js';
import { lossCause } from './measure-run.js';
import type { Logger } from '../platform/logger.js';
import { message, type AbortCause, type Body, type Message } from './messages.js';
import { execAll } from './redis-exec.js';
import { pause } from './wait.js';

const KEEP_MS = 24 * 3600 * 1000;
const MAX_LENGTH = 1000;
/** Longer than any deadline of the protocol; counted from the last message. Dead generations leave their streams behind. */
const STREAM_KEEP_MS = 10 * 60_000;
const BLOCK_MS = 1000;

export interface ControlOptions {
  /** For writing. */
  redis: Redis;
  /** Blocking reads would hold up every other command: they have a connection of their own. */
  reader: Redis;
  cohort: string;
  generation: string;
  rank: number;
  logger: Logger;
  onMessage: (message: Message) => void;
}

export class Control {
  private readonly stopping = new AbortController();
  private readonly outgoing: string;
  private readonly incoming: string;
  private loop: Promise<void> = Promise.resolve();
  private sending: Promise<void> = Promise.resolve();

  constructor(private readonly options: ControlOptions) {
    const keys = cohortKeys(options.cohort);
    const down = keys.control(options.generation);
    const up = keys.replies(options.generation);
    [this.outgoing, this.incoming] = options.rank === 0 ? [down, up] : [up, down];
  }

  start(): void {
    this.loop = this.read();
  }

  /** In order; a message that Redis does not take is logged, and the protocol's deadlines do the rest. */
  send(body: Body): void {
    const { redis, generation, rank, logger } = this.options;
    const text = JSON.stringify({ generation, from: rank, body } satisfies Message);
    this.sending = this.sending.then(async () => {
      try {
        await execAll(
          redis
            .multi()
            .xadd(this.outgoing, 'MAXLEN', '~', MAX_LENGTH, '*', 'm', text)
            .pexpire(this.outgoing, STREAM_KEEP_MS),
        );
      } catch (error) {
        logger.warn({ err: error, type: body.type }, 'message not sent');
      }
    });
  }

  /** Leaves word for ranks that read no messages any more; the first cause stands. */
  async recordAbort(cause: AbortCause): Promise<void> {
    const { redis, cohort, generation } = this.options;
    const key = cohortKeys(cohort).abort(generation);
    const first = await redis.set(key, JSON.stringify(cause), 'PX', KEEP_MS, 'NX');
    // Each rank gives the cohort up; it was lost once.
    if (first === 'OK') await redis.hincrby(cohortKeys(cohort).losses, lossCause(cause.code), 1);
  }

  /** Waits for what was sent, and ends the blocking read by closing its connection. */
  async stop(): Promise<void> {
    await this.sending;
    this.stopping.abort();
    this.options.reader.disconnect();
    await this.loop;
  }

  private async read(): Promise<void> {
    const { reader, logger } = this.options;
    const { signal } = this.stopping;
    let last = '0-0';
    while (!signal.aborted) {
      try {
        const found = await reader.xread('COUNT', 64, 'BLOCK', BLOCK_MS, 'STREAMS', this.incoming, last);
        for (const [id, fields] of found?.[0]?.[1] ?? []) {
          last = id;
          this.deliver(fields[1] ?? '');
        }
      } catch (error) {
        if (signal.aborted) return;
        logger.warn({ err: error }, 'control stream not read');
        await pause(100, signal).catch(() => undefined);
      }
    }
  }

  private deliver(text: string): void {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      value = undefined;
    }
    const parsed = message.safeParse(value);
    if (parsed.success) this.options.onMessage(parsed.data);
    else this.options.logger.error({ text: text.slice(0, 200) }, 'unknown message on the control stream');
  }
}
