/** Commands of longhaul run in this process: what they print, without the start of a process for each. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { vi } from 'vitest';
import type { Config } from '../../src/platform/config.js';
import { tempDir } from '../support/services.js';

/** Rejects as the command does. */
export async function runCommand(config: Config, command: Command, ...args: string[]) {
  const directory = await tempDir('longhaul-command-');
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += String(text);
      return true;
    }),
  );
  try {
    const { timings: _timings, ...settings } = config;
    const file = join(directory, 'config.json');
    await writeFile(file, JSON.stringify(settings));
    const program = new Command('longhaul').option('--config <file>').addCommand(command).exitOverride();
    for (const own of [command, ...command.commands]) own.exitOverride();
    await program.parseAsync(['--config', file, command.name(), ...args], { from: 'user' });
    return written;
  } finally {
    for (const spy of spies) spy.mockRestore();
    await rm(directory, { recursive: true });
  }
}
