/**
 * Facts to hide in the demo's documents: sentences, and the questions they answer. Their wording is
 * the one that the demo model was trained on (training/corpus.py).
 */
import type { Random } from '../../platform/random.js';

export interface Question {
  question: string;
  answer: string;
}
export interface Fact {
  /** Kept in this order, at different depths of the document. */
  sentences: string[];
  questions: Question[];
}

const adjectives =
  'amber ancient azure brave bronze calm coral crimson crystal distant eager emerald fierce frosty gentle golden'.split(
    ' ',
  );
const nouns =
  'anchor badger beacon bridge candle canyon castle cedar comet compass dolphin falcon garden harbor lantern meadow'.split(
    ' ',
  );
const cities =
  'Accra Athens Berlin Bogota Cairo Dublin Florence Hanoi Lisbon Madrid Nairobi Oslo Prague Riga Seoul Vienna'.split(
    ' ',
  );

/** The classic pass key, said twice in one breath. */
export function passKey(digits: string): Fact {
  return {
    sentences: [`The pass key is ${digits}. Remember it. The pass key is ${digits}.`],
    questions: [
      { question: 'Now, give me the exact number of the pass key. The pass key is', answer: `${digits}.` },
    ],
  };
}

/** `count` needles with different keys; the first `asked` of them are asked for. */
export function magicNumbers(random: Random, count: number, asked: number): Fact {
  const pairs = adjectives.flatMap((adjective) => nouns.map((noun) => `${adjective}-${noun}`));
  const keys = random.sample(pairs, count);
  const numbers = keys.map(() => random.digits(7));
  return {
    sentences: random.shuffle(
      keys.map((key, i) => `One of the special magic numbers for ${key} is: ${numbers[i]}.`),
    ),
    questions: keys.slice(0, asked).map((key, i) => ({
      question: `What is the special magic number for ${key} mentioned in the provided text?`,
      answer: `${numbers[i]}.`,
    })),
  };
}

export function accessCode(random: Random): Fact {
  const [city] = random.sample(cities, 1);
  const code = random.digits(6);
  return {
    sentences: [`The access code for the ${city} office is ${code}.`],
    questions: [{ question: `What is the access code for the ${city} office?`, answer: `${code}.` }],
  };
}
