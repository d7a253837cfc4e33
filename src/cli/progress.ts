/** Shows how far a batch is until it has ended: a bar on a terminal, lines elsewhere. Writes to stderr. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Presets, SingleBar } from 'cli-progress';
import { Pace } from '../batch/pace.js';
import { hasEnded } from '../batch/status.js';
import type { BatchStatus } from '../contracts/status.js';

const POLL_MS = 500;
/** After this long without a working cohort, the person is told. */
const IDLE_HINT_MS = 30_000;

interface Display {
  update(status: BatchStatus): void;
  note(text: string): void;
  stop(): void;
}

/**
 * Polls until the batch has ended. A batch may rightly wait for days, so the only ends are its own,
 * an abort, and Redis or S3 not answering.
 */
export async function watchBatch(
  getStatus: () => Promise<BatchStatus>,
  signal: AbortSignal,
  stream: NodeJS.WriteStream = process.stderr,
): Promise<BatchStatus> {
  const display = stream.isTTY ? barDisplay(stream) : lineDisplay(stream);
  let busyAt = Date.now();
  try {
    for (;;) {
      const status = await getStatus();
      display.update(status);
      if (hasEnded(status)) return status;
      if (status.active.length > 0 || status.status !== 'in_progress') busyAt = Date.now();
      else if (Date.now() - busyAt > IDLE_HINT_MS) {
        display.note('no cohort has claimed a document for 30 s; is one running? (longhaul local status)');
        busyAt = Date.now();
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  } finally {
    display.stop();
  }
}

function barDisplay(stream: NodeJS.WriteStream): Display {
  const bar = new SingleBar(
    {
      format: '{bar} {value}/{total} requests{pace} | {work}',
      stream,
      hideCursor: true,
      clearOnComplete: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let started = false;
  let pace: Pace | undefined;
  return {
    update(status) {
      const { total, pending } = status.request_counts;
      const work = status.active.map(describeItem).join('; ') || status.status.replace('_', ' ');
      pace ??= new Pace(status.created_at * 1000);
      const values = { work, pace: describePace(status, pace.rate(total - pending, Date.now())) };
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
    update(status) {
      for (const active of status.active) {
        const phase = `${active.epoch} ${active.phase}`;
        if (phases.get(active.item) !== phase) stream.write(describeItem(active) + '\n');
        phases.set(active.item, phase);
      }
      const line = describeCounts(status);
      if (line !== last) stream.write(line + '\n');
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

/** ` (1 failed), 2.5/min, 4 min to go`; `perSecond`: requests that end in a second, null while none has. */
export function describePace({ request_counts }: BatchStatus, perSecond: number | null): string {
  const { failed, pending } = request_counts;
  const failures = failed > 0 ? ` (${failed} failed)` : '';
  if (perSecond === null || perSecond === 0 || pending === 0) return failures;
  return `${failures}, ${(perSecond * 60).toFixed(1)}/min, ${describeSeconds(pending / perSecond)} to go`;
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
