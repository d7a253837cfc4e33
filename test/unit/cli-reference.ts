/** docs/cli.md, from the commands themselves. */
import type { Command } from 'commander';
import { pathOf } from '../../src/cli/examples.js';
import { createProgram } from '../../src/cli/program.js';

/** What `--help` prints on a terminal of 100 columns, without colours. */
export function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part), getOutHelpWidth: () => 100 });
  command.outputHelp();
  return text;
}

export function cliReference(): string {
  const sections = walk(createProgram()).map((command) => {
    const heading = command.parent === null ? '## longhaul' : `## ${pathOf(command)}`;
    return `${heading}\n\n\`\`\`text\n${helpOf(command).trimEnd()}\n\`\`\`\n`;
  });
  return `# Command line

Made by \`make docs\` from the commands themselves. Every command has \`--json\`: one JSON value, or one per line, on stdout; what
is for people while it runs goes to stderr. Bars and lines that are rewritten appear on a terminal only; nothing is coloured, so
\`NO_COLOR\` changes nothing.

| exit code | |
|---|---|
| 0 | done |
| 1 | an error, a problem that was found, a result that is not as expected |
| 2 | a batch that is not finished, or not wholly answered |
| 64 | wrong usage |
| 75 | \`worker\`: the communicator was lost; start all ranks of the cohort anew |
| 130 | interrupted; with \`submit --wait\` and \`status --watch\` the batch goes on |

${sections.join('\n')}`;
}

function walk(command: Command): Command[] {
  const visible = command.createHelp().visibleCommands(command);
  return [command, ...visible.filter((sub) => sub.name() !== 'help').flatMap(walk)];
}
