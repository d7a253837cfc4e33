/** Variable tracking: one value that a chain of assignments hands on; which variables hold it? */
import { NOISE } from './needles.js';
import { drawn, placed, type Generate } from './sample.js';

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** `hops` assignments after the first, so `hops + 1` names of five letters; RULER's other chains are 0. */
export function variables({ hops }: { hops: number }): Generate {
  return (random) => {
    const names = new Set<string>();
    while (names.size <= hops) {
      names.add(Array.from({ length: 5 }, () => LETTERS[random.below(LETTERS.length)]).join(''));
    }
    const chain = [...names];
    const value = random.digits(5);
    const depths = chain.map(() => random.next()).sort((a, b) => a - b);
    const insertions = chain.map((name, i) => ({
      text: i === 0 ? `VAR ${name} = ${value}.` : `VAR ${name} = VAR ${chain[i - 1]}.`,
      depth: depths[i] ?? 0,
    }));
    const hay = drawn(() => NOISE);
    return {
      question: `Find all variables that are assigned the value ${value} in the text above.`,
      expected: chain,
      build: (units) => placed(hay(units), insertions).join('\n'),
    };
  };
}
