/**
 * A unit of infra/systemd run as systemd would: its command, its settings from the file that stands for
 * /etc/longhaul/longhaul.env, started anew `RestartSec` after each end. What guards the process (User=, ProtectSystem= ...)
 * is not done.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';
import { endProcess } from '../support/services.js';
import type { Host } from './network.js';

const INSTALLED = '/usr/local/bin/longhaul';

export class Unit {
  /** Exit codes, in order. */
  readonly exits: (number | null)[] = [];
  log = '';
  private readonly words: string[];
  private readonly restartMs: number;
  private readonly stopMs: number;
  private readonly stopping = new AbortController();
  private readonly running: Promise<void>;
  private child: ChildProcess | undefined;

  /** `instance`: what comes after the @ of a template's name. */
  constructor(
    private readonly host: Host,
    file: string,
    private readonly environment: Record<string, string>,
    instance = '',
  ) {
    const text = readFileSync(resolve('infra/systemd', file), 'utf8');
    const value = (name: string): string => {
      const found = new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1];
      if (found === undefined) throw new Error(`${file} has no ${name}`);
      return found;
    };
    if (value('Restart') !== 'always') throw new Error(`${file} is not started anew`);
    this.restartMs = Number(value('RestartSec')) * 1000;
    this.stopMs = Number(value('TimeoutStopSec')) * 1000;
    this.words = value('ExecStart')
      .replaceAll('%i', instance)
      .replace(/\$\{(\w+)\}/g, (_all, name: string) => {
        const set = environment[name];
        if (set === undefined) throw new Error(`${file} needs ${name}`);
        return set;
      })
      .split(' ');
    if (this.words.shift() !== INSTALLED) throw new Error(`${file} does not run ${INSTALLED}`);
    this.running = this.run();
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    if (this.child !== undefined) await endProcess(this.child, 'SIGTERM', this.stopMs);
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const child = this.host.spawn(process.execPath, [resolve('bin/longhaul.js'), ...this.words], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...this.environment },
      });
      this.child = child;
      child.stderr?.on('data', (text: Buffer) => (this.log += text.toString()));
      const [code] = (await once(child, 'exit')) as [number | null];
      this.exits.push(code);
      await sleep(this.restartMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
