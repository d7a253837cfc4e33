/** What a rank takes of its machine, for people: told with its heartbeat, decides nothing. */
import { execFile } from 'node:child_process';
import { totalmem } from 'node:os';
import type { RankUsage } from '../contracts/cohort.js';
import { visibleGpus, type Config } from '../platform/config.js';
import { now } from './wait.js';

const GPU_EVERY_MS = 5_000;
const GPU_TIMEOUT_MS = 4_000;
const MIB = 1024 ** 2;

export class Usage {
  private gpu: RankUsage | null = null;
  private asking: AbortController | null = null;
  private askedAt = -Infinity;
  private last = { at: now(), cpu: process.cpuUsage() };
  private busy = 0;

  constructor(
    private readonly backend: string,
    private readonly config: Pick<Config, 'gpu' | 'rank' | 'threads'>,
  ) {}

  /** Never waits: a GPU's numbers are those of the last answer of its driver's tool. */
  sample(): RankUsage {
    if (!this.backend.startsWith('cuda')) return this.process();
    if (now() - this.askedAt > GPU_EVERY_MS && this.asking === null) this.ask();
    return this.gpu ?? { device: this.backend, memory_used: null, memory_total: null, busy: null };
  }

  close(): void {
    this.asking?.abort();
  }

  private process(): RankUsage {
    const at = now();
    // A forced beat soon after another would measure noise.
    if (at - this.last.at >= 200) {
      const spent = process.cpuUsage(this.last.cpu);
      const share = (spent.user + spent.system) / 1000 / (at - this.last.at) / this.config.threads;
      this.busy = Math.min(1, Math.round(share * 100) / 100);
      this.last = { at, cpu: process.cpuUsage() };
    }
    const memory_used = process.memoryUsage.rss();
    return { device: 'cpu', memory_used, memory_total: totalmem(), busy: this.busy };
  }

  private ask(): void {
    this.askedAt = now();
    const asking = new AbortController();
    this.asking = asking;
    const fields = '--query-gpu=name,memory.used,memory.total,utilization.gpu';
    const which = ['-i', deviceOf(this.config.gpu ?? this.config.rank)];
    const args = [fields, '--format=csv,noheader,nounits', ...which];
    const options = { timeout: GPU_TIMEOUT_MS, signal: asking.signal };
    execFile('nvidia-smi', args, options, (error, stdout) => {
      this.asking = null;
      this.gpu = error === null ? readGpu(stdout) : null;
    });
  }
}

/** Index or UUID of a rank's GPU as nvidia-smi counts, which knows nothing of what is hidden from this process. */
function deviceOf(gpu: number): string {
  const visible = visibleGpus();
  return visible.length === 0 ? String(gpu) : (visible[gpu % visible.length] ?? String(gpu));
}

/** One line: name, MiB used, MiB in all, per cent. What a card does not tell stands there as `[N/A]`. */
export function readGpu(line: string): RankUsage | null {
  const [device, used, total, busy] = line
    .trim()
    .split(',')
    .map((field) => field.trim());
  if (device === undefined || busy === undefined) return null;
  const number = (text: string | undefined, factor: number): number | null => {
    const value = Number(text);
    return Number.isFinite(value) ? value * factor : null;
  };
  return {
    device,
    memory_used: number(used, MIB),
    memory_total: number(total, MIB),
    busy: number(busy, 0.01),
  };
}
