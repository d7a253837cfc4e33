/** Shows how far a batch is until it has ended: a bar on a terminal, lines elsewhere. Writes to stderr. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Presets, SingleBar } from 'cli-progress';
import { Failures } from '../batch/failures.js';
import { Pace } from '../batch/pace.js';
import type { BatchDeps } from '../batch/queues.js';
import { getStatus, hasEnded } from '../batch/status.js';
import type { Outcome } from '../contracts/outcome.js';
import type { BatchStatus } from '../contracts/status.js';

const POLL_MS = 500;
/** After this long without a working cohort, the person is told, once until one works again. */
const IDLE_HINT_MS = 30_000;
/** Failures told as they come; `error.jsonl` has all. */
const FAILURES = 10;
/** Characters of a failure's message. */
const MESSAGE = 200;

interface Display {
  update(status: BatchStatus, progress: string): void;
  note(text: string): void;
  stop(): void;
}

/** What is followed. */
export interface Followed {
  status: () => Promise<BatchStatus>;
  /** Failed requests that were not told before. */
  failures: (status: BatchStatus) => Promise<Outcome[]>;
}

export function follow(deps: BatchDeps, id: string, signal: AbortSignal): Followed {
  const failures = new Failures(deps, id, FAILURES);
  return {
    status: () => getStatus(deps, id, signal),
    failures: (status) => failures.next(status, signal),
  };
}

/** For whoever stops watching: how to come back. */
export function describeDetached(id: string): string {
  return `\ndetached; the batch goes on. Come back with: longhaul status ${id} --watch\nand then: longhaul results ${id}\n`;
}

/**
 * Polls until the batch has ended. A batch may rightly wait for days, so the only ends are its own,
 * an abort, and Redis or S3 not answering.
 */
export async function watchBatch(
  { status: ask, failures }: Followed,
  signal: AbortSignal,
  stream: NodeJS.WriteStream = process.stderr,
): Promise<BatchStatus> {
  const display = stream.isTTY ? barDisplay(stream) : lineDisplay(stream);
  const speed = new Speed();
  let busyAt = Date.now();
  let told = false;
  try {
    for (;;) {
      const status = await ask();
      for (const failed of await failures(status)) display.note(describeFailure(failed));
      display.update(status, describeProgress(status, speed.rates(status)));
      if (hasEnded(status)) return status;
      if (status.active.length > 0 || status.status !== 'in_progress') {
        busyAt = Date.now();
        told = false;
      } else if (!told && Date.now() - busyAt > IDLE_HINT_MS) {
        display.note(
          'no document of this batch was claimed for 30 s: cohorts work on other batches, or none is running (longhaul local status)',
        );
        told = true;
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  } finally {
    display.stop();
  }
}

/** How fast a batch goes on, in requests and in tokens: those of its outcomes and of the documents in hand. */
class Speed {
  private requests: Pace | undefined;
  private tokens: Pace | undefined;
  private read = 0;

  rates(status: BatchStatus, at = Date.now()): Rates {
    const { created_at, request_counts, usage, work, active } = status;
    this.requests ??= new Pace(created_at * 1000);
    this.tokens ??= new Pace(created_at * 1000);
    const inHand = active.map(({ phase, done, total, document_tokens }) =>
      phase === 'prefill'
        ? (document_tokens * done) / Math.max(1, total)
        : phase === 'decode'
          ? document_tokens
          : 0,
    );
    const ended = (work?.document_tokens ?? 0) + (usage?.query_tokens ?? 0) + (usage?.answer_tokens ?? 0);
    // A document that was given back is read again: until then nothing is won.
    this.read = Math.max(this.read, ended + inHand.reduce((sum, tokens) => sum + tokens, 0));
    return {
      requests: this.requests.rate(request_counts.total - request_counts.pending, at),
      tokens: this.tokens.rate(this.read, at),
    };
  }
}

function barDisplay(stream: NodeJS.WriteStream): Display {
  const bar = new SingleBar(
    {
      format: '{bar} {value}/{total} requests, {progress} | {work}',
      stream,
      hideCursor: true,
      clearOnComplete: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let started = false;
  return {
    update(status, progress) {
      const { total, pending } = status.request_counts;
      const work = status.active.map(describeItem).join('; ') || status.status.replace('_', ' ');
      const values = { work, progress };
      if (!started) bar.start(total, total - pending, values);
      else bar.update(total - pending, values);
      started = true;
    },
    note: (text) => void stream.write(`\n${text}\n`),
    stop: () => bar.stop(),
  };
}

/** One line when a document enters a phase and when requests have ended: logs stay short. */
function lineDisplay(stream: NodeJS.WriteStream): Display {
  let last = '';
  const phases = new Map<number, string>();
  return {
    update(status, progress) {
      for (const active of status.active) {
        const phase = `${active.epoch} ${active.phase}`;
        if (phases.get(active.item) !== phase) stream.write(describeItem(active) + '\n');
        phases.set(active.item, phase);
      }
      const line = describeCounts(status);
      if (line !== last) stream.write(`${line}; ${progress}\n`);
      last = line;
    },
    note: (text) => void stream.write(text + '\n'),
    stop: () => undefined,
  };
}

function describeItem({ item, epoch, phase, done, total, document_tokens }: BatchStatus['active'][number]) {
  const tokens = document_tokens > 0 ? ` (${document_tokens} tokens)` : '';
  const steps = total > 0 ? ` ${done}/${total}` : '';
  const again = epoch > 1 ? `, start ${epoch}` : '';
  return `document ${item}${tokens}: ${phase}${steps}${again}`;
}

/** In a second; null while there is none. */
interface Rates {
  requests: number | null;
  tokens: number | null;
}

/** `1 of 3 documents, 1 failed, 2500 tokens/s, 2.5 requests/min, 4 min to go` */
export function describeProgress({ request_counts, documents }: BatchStatus, rates: Rates): string {
  const { failed, pending } = request_counts;
  const { requests, tokens } = rates;
  const parts = [`${documents.ended} of ${documents.total} documents`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (tokens !== null && pending > 0) parts.push(`${Math.round(tokens)} tokens/s`);
  if (requests !== null && requests > 0 && pending > 0) {
    parts.push(`${(requests * 60).toFixed(1)} requests/min, ${describeSeconds(pending / requests)} to go`);
  }
  return parts.join(', ');
}

function describeFailure({ custom_id, error }: Outcome): string {
  const message = (error?.message ?? '').replace(/\s+/g, ' ');
  const told = message.length > MESSAGE ? `${message.slice(0, MESSAGE)}...` : message;
  return `request ${JSON.stringify(custom_id)} failed: ${told} [${error?.code ?? 'FAILED'}]`;
}

function describeSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** `12 of 13 requests ended: 11 answered, 1 failed` */
export function describeCounts({ status, request_counts }: BatchStatus): string {
  const { total, pending, ...ended } = request_counts;
  const parts = Object.entries(ended).filter(([, count]) => count > 0);
  const detail = parts.map(([name, count]) => `${count} ${name}`).join(', ');
  return `${status}: ${total - pending} of ${total} requests ended${detail === '' ? '' : `: ${detail}`}`;
}
