import { Argument, Command, type Option } from 'commander';
import { pathOf } from './examples.js';
import { printJson, printLine } from './context.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** `longhaul completion bash|zsh|fish`: a script made from the commands themselves. */
export function completionCommand(): Command {
  return new Command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .option('--json', 'print the script as a JSON string')
    .addHelpText(
      'after',
      `
bash: source <(longhaul completion bash), in ~/.bashrc
zsh:  source <(longhaul completion zsh), in ~/.zshrc after compinit
fish: longhaul completion fish > ~/.config/fish/completions/longhaul.fish`,
    )
    .action((shell: Shell, { json }: { json?: boolean }, command: Command) => {
      const script = completionScript(rootOf(command), shell);
      if (json === true) printJson({ shell, script });
      else printLine(script);
    });
}

export function completionScript(program: Command, shell: Shell): string {
  if (shell === 'fish') return fishScript(program);
  // zsh runs bash's completions itself.
  return (shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '') + bashScript(program);
}

function bashScript(program: Command): string {
  const commands = allCommands(program);
  const words = commands.map((command) => {
    const below = visible(command).map((sub) => sub.name());
    const all = [...below, ...command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? [])];
    return `    '${pathOf(command)}') words='${[...all, ...optionsOf(command).map(flagOf)].join(' ')}' ;;`;
  });
  const choices = commands.flatMap((command) =>
    optionsOf(command)
      .filter(({ argChoices }) => argChoices !== undefined)
      .map((o) => `    '${pathOf(command)} ${flagOf(o)}') words='${(o.argChoices ?? []).join(' ')}' ;;`),
  );
  return `_longhaul() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" at=longhaul words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at \${COMP_WORDS[i]}" in
      ${commands
        .slice(1)
        .map((command) => `'${pathOf(command)}'`)
        .join('|')}) at="$at \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at" in
${words.join('\n')}
  esac
  case "$at \${COMP_WORDS[COMP_CWORD - 1]}" in
${choices.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _longhaul longhaul`;
}

function fishScript(program: Command): string {
  const commands = allCommands(program);
  const lines = commands.flatMap((command) => {
    const here = `complete -c longhaul -n '__longhaul_at "${pathOf(command)}"'`;
    const below = visible(command).map((sub) => `${here} -a ${sub.name()} -d ${quoted(sub.description())}`);
    const places = command.registeredArguments
      .filter(({ argChoices }) => argChoices !== undefined)
      .map(
        ({ argChoices, description }) => `${here} -a '${argChoices?.join(' ')}' -d ${quoted(description)}`,
      );
    const options = optionsOf(command).map((option) => {
      const value =
        option.argChoices === undefined
          ? option.required
            ? ' -r'
            : ''
          : ` -xa '${option.argChoices.join(' ')}'`;
      return `${here} -l ${flagOf(option).slice(2)}${value} -d ${quoted(option.description)}`;
    });
    return [...below, ...places, ...options];
  });
  return `function __longhaul_at
  set -l at longhaul
  for word in (commandline -opc)[2..-1]
    switch "$at $word"
      case ${commands
        .slice(1)
        .map((command) => `'${pathOf(command)}'`)
        .join(' ')}
        set at "$at $word"
    end
  end
  test "$at" = "$argv[1]"
end
${lines.join('\n')}`;
}

/** The command and all that are below it, in the order of the help. */
function allCommands(command: Command): Command[] {
  return [command, ...visible(command).flatMap(allCommands)];
}

/** Without those that are hidden from people. */
function visible(command: Command): Command[] {
  const help = command.createHelp();
  return help.visibleCommands(command).filter((sub) => command.commands.includes(sub));
}

function optionsOf(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function flagOf(option: Option): string {
  return option.long ?? option.flags;
}

function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}

function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
