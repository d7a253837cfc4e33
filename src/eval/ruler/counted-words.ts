/** RULER's two aggregation tasks: which words are the most common of a list? */
import { LonghaulError } from '../../platform/errors.js';
import { Random } from '../../platform/random.js';
import { drawn, type Generate } from './sample.js';

/** How often a common word and how often any other stands in the list. */
interface Times {
  common: number;
  other: number;
}

/** @param short for documents below 4096 tokens. A unit of filler is one more uncommon word, `times.other` times. */
export function commonWords(settings: { common: number; times: Times; short: Times }): Generate {
  return (random, { vocabulary }, length) => {
    const { common } = settings;
    const times = length < 4096 ? settings.short : settings.times;
    const order = random.shuffle(vocabulary);
    const expected = order.slice(0, common);
    const seed = random.below(2 ** 31);
    const others = drawn((i) => {
      const word = order[common + i];
      if (word === undefined) {
        throw new LonghaulError(
          'EVAL_WORDS',
          `the filler's vocabulary of ${order.length} words is too small for this length; choose a shorter one for cwe`,
        );
      }
      return word;
    });
    return {
      question: `Which ${common} words stand in the numbered list most often?`,
      expected,
      build: (units) => {
        const list = [
          ...expected.flatMap((word) => Array<string>(times.common).fill(word)),
          ...others(units).flatMap((word) => Array<string>(times.other).fill(word)),
        ];
        return new Random(seed)
          .shuffle(list)
          .map((word, i) => `${i + 1}. ${word}`)
          .join(' ');
      },
    };
  };
}

/** Document tokens for each of the coded words. */
const TOKENS_PER_WORD = 50;
/** The sum of k^-2 over all k. */
const ZETA_2 = Math.PI ** 2 / 6;

/**
 * Coded words by Zipf's law: the word of rank k has a share of k^-2 / zeta(2). Rank 1 is `...`,
 * which nobody asks for; `asked` is how many of the next are. A unit of filler is ten words.
 */
export function frequentWords({ asked }: { asked: number }): Generate {
  return (random, _sources, length) => {
    const coded = new Set<string>();
    while (coded.size < Math.max(2 * asked, Math.floor(length / TOKENS_PER_WORD) - 1)) {
      coded.add(Array.from({ length: 6 }, () => String.fromCharCode(97 + random.below(26))).join(''));
    }
    const ranked = ['...', ...coded];
    const seed = random.below(2 ** 31);
    return {
      question: `Which ${asked} coded words occur most often in the text, leaving out "..."?`,
      expected: ranked.slice(1, 1 + asked),
      build: (units) => {
        // Below 20 units the asked words would tie with others.
        const words = 200 + 10 * units;
        const list = ranked.flatMap((word, i) =>
          Array<string>(Math.floor(words / (i + 1) ** 2 / ZETA_2)).fill(word),
        );
        return new Random(seed).shuffle(list).join(' ');
      },
    };
  };
}
