import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { childEnvironment } from '../platform/config.js';
import { identify, type ProcessIdentity } from './process-identity.js';
import type { GroupSpec, GroupState, ProcessSpec } from './state-files.js';

/**
 * Processes that live and die together. A single service is a group of one; the ranks of a cohort are
 * a group of N, because when one of them ends the communicator of all is lost: the others notice and
 * end by themselves (exit code 75), or are killed when they have not in time, and all start anew.
 */
export interface Backoff {
  firstMs: number;
  lastMs: number;
  /** After running this long the next failure counts as a first one again. */
  healthyMs: number;
}
export const defaultBackoff: Backoff = { firstMs: 200, lastMs: 10_000, healthyMs: 60_000 };

interface Member {
  spec: ProcessSpec;
  log: string;
  child?: ChildProcess;
  /** Settles when the child has ended; never rejects. */
  ended?: Promise<void>;
  identity?: ProcessIdentity;
  since?: string;
  lastExit?: string;
}

export interface GroupOptions {
  spec: GroupSpec;
  logOf: (name: string) => string;
  /** Called at every change, before anything else happens: what is spawned must be on record. */
  onChange: () => void;
  report: (text: string) => void;
  backoff?: Backoff;
}

export class ProcessGroup {
  private readonly members: Member[];
  private phase: GroupState['phase'] = 'waiting';
  private restarts = 0;

  constructor(private readonly options: GroupOptions) {
    this.members = options.spec.processes.map((spec) => ({ spec, log: options.logOf(spec.name) }));
  }

  get spec(): GroupSpec {
    return this.options.spec;
  }

  state(): GroupState {
    return {
      name: this.spec.name,
      phase: this.phase,
      restarts: this.restarts,
      processes: this.members.map(({ spec, log, identity, since, lastExit }) => ({
        name: spec.name,
        log,
        identity,
        since,
        lastExit,
      })),
    };
  }

  /** Keeps the group running until `stop`, then ends it. Returns when no member is left. */
  async run(stop: AbortSignal): Promise<void> {
    const { firstMs, lastMs, healthyMs } = this.options.backoff ?? defaultBackoff;
    let failures = 0;
    try {
      while (!stop.aborted) {
        const started = performance.now();
        for (const member of this.members) this.start(member);
        this.enter('running');
        await this.firstEnd(stop);
        if (stop.aborted) break;
        this.enter('ending');
        await this.endAll(this.spec.survivorMs);
        failures = performance.now() - started >= healthyMs ? 1 : failures + 1;
        const delay = Math.min(lastMs, firstMs * 2 ** (failures - 1));
        this.restarts++;
        this.options.report(`${this.spec.name}: starts again in ${delay} ms`);
        this.enter('backing off');
        // An abort only means that the loop ends.
        await sleep(delay, undefined, { signal: stop }).catch(() => undefined);
      }
    } finally {
      this.enter('ending');
      for (const { child } of this.living()) child.kill('SIGTERM');
      await this.endAll(this.spec.stopMs);
      this.enter('stopped');
    }
  }

  /** For the very end of the supervisor, when there is no time for anything else. */
  killNow(): void {
    for (const { child } of this.living()) child.kill('SIGKILL');
  }

  private enter(phase: GroupState['phase']): void {
    this.phase = phase;
    this.options.onChange();
  }

  private living(): { child: ChildProcess; ended: Promise<void>; name: string }[] {
    return this.members.flatMap(({ child, ended, spec }) =>
      child && ended ? [{ child, ended, name: spec.name }] : [],
    );
  }

  private start(member: Member): void {
    const { spec, log } = member;
    const output = openSync(log, 'a', 0o600);
    try {
      const child = spawn(spec.command, spec.args, {
        stdio: ['ignore', output, output],
        env: childEnvironment(spec.environment),
      });
      member.child = child;
      member.identity = child.pid === undefined ? undefined : identify(child.pid);
      member.since = new Date().toISOString();
      this.options.onChange();
      this.options.report(`${spec.name}: started as process ${child.pid ?? '?'}`);
      member.ended = new Promise((resolve) => {
        const end = (how: string): void => {
          if (member.child !== child) return;
          Object.assign(member, { child: undefined, ended: undefined, identity: undefined, lastExit: how });
          this.options.report(`${spec.name}: ${how}`);
          this.options.onChange();
          resolve();
        };
        child.once('error', (error) => {
          // Also emitted when a signal could not be sent; only a child without a pid never was.
          if (child.pid === undefined) end(`could not be started: ${error.message}`);
        });
        child.once('exit', (code, signal) =>
          end(signal === null ? `ended with exit code ${code}` : `ended by ${signal}`),
        );
      });
    } finally {
      closeSync(output);
    }
  }

  private async firstEnd(stop: AbortSignal): Promise<void> {
    if (this.living().length < this.members.length) return;
    const listening = new AbortController();
    const stopped = new Promise<void>((resolve) => {
      stop.addEventListener('abort', () => resolve(), { once: true, signal: listening.signal });
      if (stop.aborted) resolve();
    });
    await Promise.race([stopped, ...this.living().map((m) => m.ended)]);
    listening.abort();
  }

  /** Waits until all have ended, at most `ms`; then kills the rest. */
  private async endAll(ms: number): Promise<void> {
    const left = this.living();
    if (left.length === 0) return;
    const timer = setTimeout(() => {
      for (const { child, name } of this.living()) {
        this.options.report(`${name}: still there after ${ms} ms, killed`);
        child.kill('SIGKILL');
      }
    }, ms);
    await Promise.all(left.map((m) => m.ended));
    clearTimeout(timer);
  }
}
