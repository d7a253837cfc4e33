/** The built command as people run it: a process with its settings and nothing else of ours. Needs `make build`. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { toEnvironment, type Settings } from '../../src/platform/config.js';
import { compiled } from './compiled.js';
import { watch } from './leaks.js';
import { endProcess } from './services.js';

export interface Command {
  child: ChildProcess;
  /** What it wrote to stderr. */
  log: string[];
  stop: () => Promise<void>;
}

/** A command that runs until it is stopped. */
export function startCommand(args: string[], settings: Partial<Settings>): Command {
  compiled('src/cli/main.ts');
  const environment = toEnvironment({ profile: 'fast', logLevel: 'info', ...settings });
  const child = watch(
    spawn(process.execPath, [resolve('bin/longhaul.js'), ...args], {
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment },
      cwd: tmpdir(),
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  const log: string[] = [];
  child.stderr?.on('data', (text: Buffer) => log.push(text.toString()));
  return { child, log, stop: () => endProcess(child) };
}

/** One that says first where it listens: `<name> <url>`. */
export async function startServer(
  name: 'dashboard' | 'gateway',
  settings: Partial<Settings>,
): Promise<Command & { url: string }> {
  const command = startCommand([name], settings);
  const lines = createInterface({ input: command.child.stdout as NodeJS.ReadableStream });
  const exited = once(command.child, 'exit').then(() => undefined);
  const line = await Promise.race([once(lines, 'line').then(([text]) => String(text)), exited]);
  if (line === undefined) throw new Error(`the ${name} did not start:\n${command.log.join('')}`);
  return { ...command, url: line.replace(`${name} `, '') };
}
