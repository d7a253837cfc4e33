import { execFileSync } from 'node:child_process';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { completionScript } from '../../src/cli/completion.js';
import { pathOf } from '../../src/cli/examples.js';
import { createProgram } from '../../src/cli/program.js';
import { cliReference, helpOf } from './cli-reference.js';

const program = createProgram();
const walk = (command: Command): Command[] => [
  command,
  ...command
    .createHelp()
    .visibleCommands(command)
    .filter((sub) => sub.name() !== 'help')
    .flatMap(walk),
];
const commands = walk(program);

test('the program has its commands', () => {
  expect(commands.length).toBeGreaterThan(30);
});

test.each(commands.map((command) => [pathOf(command), command] as const))(
  'the help of %s ends with an example of it, which is itself a command line that commander takes',
  (path, command) => {
    const last = helpOf(command).trimEnd().split('\n').slice(-2);
    expect(last[0]).toBe('Example:');
    expect(last[1]).toContain(path);
    const options = [...(last[1] ?? '').matchAll(/ (--[a-z-]+)/g)].map(([, flag]) => flag);
    const all = walk(command).flatMap((c) => [...c.options, ...program.options].map(({ long }) => long));
    for (const option of options) expect(all).toContain(option);
  },
);

test.each(commands.filter((command) => command.commands.length === 0).map((c) => [pathOf(c), c] as const))(
  '%s has --json',
  (_path, command) => {
    expect(command.options.map(({ long }) => long)).toContain('--json');
  },
);

test('the reference of the command line is current: make docs', async () => {
  await expect(cliReference()).toMatchFileSnapshot('../../docs/cli.md');
});

describe('what a typo is told', () => {
  test.each([
    ['a command', ['sumbit', 'x.jsonl'], "unknown command 'sumbit'\n(Did you mean submit?)"],
    ['a command below another', ['local', 'dwon'], "unknown command 'dwon'\n(Did you mean down?)"],
    ['an option', ['submit', 'x', '--wiat'], "unknown option '--wiat'\n(Did you mean --wait?)"],
    [
      'an option of a subcommand',
      ['batch', 'list', '--limt', '3'],
      "unknown option '--limt'\n(Did you mean --limit?)",
    ],
  ])('%s', async (_what, args, hint) => {
    const typed = createProgram();
    let said = '';
    for (const command of walk(typed)) command.configureOutput({ writeErr: (text) => (said += text) });
    await expect(typed.parseAsync(args, { from: 'user' })).rejects.toThrow();
    expect(said).toContain(hint);
  });
});

/** What bash itself would offer after these words. */
function complete(...words: string[]): string[] {
  const script = `${completionScript(program, 'bash')}
COMP_WORDS=(longhaul ${words.map((word) => `'${word}'`).join(' ')})
COMP_CWORD=${words.length}
_longhaul
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const bash = ['--norc', '-c', script];
  return execFileSync('bash', bash, { encoding: 'utf8' })
    .split('\n')
    .filter((word) => word !== '');
}

describe('completion in bash', () => {
  test.each([
    [['su'], ['submit']],
    [
      ['local', ''],
      ['up', 'down', 'status', '--help'],
    ],
    [['submit', 'file.jsonl', '--method', 'ri'], ['ring']],
    [
      ['--log-level', 'debug', 'batch', 'r'],
      ['rm', 'retention'],
    ],
    [['completion', 'f'], ['fish']],
    [['submit', '--pri'], ['--priority']],
  ])('%j', (words, offered) => {
    expect(complete(...words)).toEqual(offered);
  });

  test('offers no hidden command', () => {
    expect(complete('local', 'superv')).toEqual([]);
  });
});

test('fish is given every command and option', () => {
  const script = completionScript(program, 'fish');
  expect(script).toContain(`'__longhaul_at "longhaul local"' -a down`);
  expect(script).toContain(`'__longhaul_at "longhaul submit"' -l method -xa '`);
});
