/** The rules that this project's images keep, checked by reading: a small check of our own, no general linter. */

interface Instruction {
  line: number;
  name: string;
  rest: string;
}

function instructionsOf(text: string): Instruction[] {
  const found: Instruction[] = [];
  let open = false;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const last = found.at(-1);
    if (open && last !== undefined) last.rest += ` ${line.replace(/\\$/, '')}`;
    else {
      const [name = '', ...words] = line.replace(/\\$/, '').split(/\s+/);
      found.push({ line: index + 1, name, rest: words.join(' ') });
    }
    open = line.endsWith('\\');
  }
  return found;
}

const isExecForm = (rest: string): boolean => {
  try {
    return Array.isArray(JSON.parse(rest));
  } catch {
    return false;
  }
};

/** What is wrong with a Dockerfile, one sentence each; empty: nothing. */
export function dockerfileProblems(text: string): string[] {
  const problems: string[] = [];
  const stages: string[] = [];
  const instructions = instructionsOf(text);
  const say = ({ line }: Instruction, problem: string) => problems.push(`line ${line}: ${problem}`);
  let final: Instruction[] = [];
  for (const instruction of instructions) {
    const { name, rest } = instruction;
    if (name === 'FROM') {
      const [image = '', , stage] = rest.split(/\s+/);
      if (image.includes('@')) say(instruction, `${image} is named by digest`);
      else if (!stages.includes(image) && !/:v?\d[\w.-]*$/.test(image))
        say(instruction, `${image} has no version tag`);
      if (stage !== undefined) stages.push(stage);
      final = [];
    }
    if (name === 'ADD') say(instruction, 'ADD unpacks and downloads; COPY does neither');
    const [, from] = /^--from=(\S+)/.exec(rest) ?? [];
    if (name === 'COPY' && from !== undefined && !stages.includes(from)) say(instruction, `no stage ${from}`);
    if ((name === 'ENTRYPOINT' || name === 'CMD') && !isExecForm(rest))
      say(instruction, `${name} is not in exec form: a shell would keep signals to itself`);
    final.push(instruction);
  }
  const last = (name: string) => final.findLast((instruction) => instruction.name === name);
  const user = last('USER');
  if (user === undefined) problems.push('the last stage has no USER');
  else if (!/^[1-9]\d*(:[1-9]\d*)?$/.test(user.rest)) say(user, `USER ${user.rest} is no number above 0`);
  if (last('HEALTHCHECK') === undefined) problems.push('the last stage has no HEALTHCHECK');
  if (last('STOPSIGNAL')?.rest !== 'SIGTERM') problems.push('STOPSIGNAL is not SIGTERM, which drains');
  if (!/^\["\/usr\/bin\/tini"/.test(last('ENTRYPOINT')?.rest ?? ''))
    problems.push('ENTRYPOINT does not start tini');
  for (const instruction of final.filter(({ name }) => name === 'RUN'))
    if (!instruction.rest.includes('rm -rf') || !instruction.rest.includes('/var/lib/apt/lists/*'))
      say(instruction, 'the package lists stay in the image');
  return problems;
}
