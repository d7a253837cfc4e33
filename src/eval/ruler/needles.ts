/** Needles in a haystack: RULER's eight retrieval tasks (Hsieh et al., 2024) are settings of this one. */
import type { Random } from '../../platform/random.js';
import { drawn, placed, type Generate, type Sample, type Sources } from './sample.js';

export interface NeedleSettings {
  haystack: 'noise' | 'essay' | 'needles';
  key: 'words' | 'uuids';
  value: 'numbers' | 'uuids';
  /** Keys hidden, values of each key, keys asked for. */
  keys: number;
  values: number;
  asked: number;
}

export const NOISE =
  'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';
const ADJECTIVES =
  'amber ancient azure brave bronze calm coral crimson crystal distant eager emerald fierce frosty gentle golden hollow humble ivory jolly keen lively lunar mellow mighty misty noble quiet rapid rustic silent silver'.split(
    ' ',
  );
const NOUNS =
  'anchor badger beacon bridge candle canyon castle cedar comet compass dolphin falcon garden harbor lantern meadow mirror needle orchard otter parrot pebble planet prairie rabbit saddle shovel temple thunder tunnel valley willow'.split(
    ' ',
  );

/** Where needles stand in prose: as RULER, at so many depths from start to end, each taken once. */
export const DEPTHS = 40;

/**
 * Sentences are worded as the demo model knows them (training/corpus.py). With `needles` as haystack
 * every unit of filler is another needle, of a key that nobody asks for.
 */
export function needles(settings: NeedleSettings): Generate {
  return (random, sources) => {
    const { hidden, build } = hide(settings, random, sources);
    const asked = hidden.slice(0, settings.asked);
    return { question: ask(settings, asked), expected: asked.flatMap((each) => each.values), build };
  };
}

interface Hidden {
  key: string;
  values: string[];
}

/** A haystack with its needles. */
export function hide(
  settings: NeedleSettings,
  random: Random,
  { essay }: Sources,
): { hidden: Hidden[] } & Pick<Sample, 'build'> {
  const used = new Set<string>();
  const key = () => unused(used, () => (settings.key === 'words' ? words(random) : uuid(random)));
  const value = () => (settings.value === 'numbers' ? random.digits(7) : uuid(random));
  const sentence = (k: string, v: string) => `One of the special magic ${settings.value} for ${k} is: ${v}.`;

  const hidden = Array.from({ length: settings.keys }, () => ({
    key: key(),
    values: Array.from({ length: settings.values }, value),
  }));
  const count = settings.keys * settings.values;
  const grid = random.shuffle(Array.from({ length: DEPTHS }, (_, i) => i / (DEPTHS - 1)));
  const depths =
    settings.haystack === 'essay' ? grid.slice(0, count) : Array.from({ length: count }, () => random.next());
  const insertions = hidden.flatMap((each, k) =>
    each.values.map((v, i) => ({
      text: sentence(each.key, v),
      depth: depths[k * settings.values + i] ?? 0,
    })),
  );
  const start = random.below(essay.length);
  const hay = drawn((i) => {
    if (settings.haystack === 'noise') return NOISE;
    if (settings.haystack === 'essay') return essay[(start + i) % essay.length] ?? '';
    return sentence(key(), value());
  });
  const between = settings.haystack === 'essay' ? ' ' : '\n';
  return { hidden, build: (units) => placed(hay(units), insertions).join(between) };
}

/** One question for all values of these keys. */
export function ask({ value, values }: NeedleSettings, asked: readonly Hidden[]): string {
  const many = asked.length * values > 1;
  const noun = many ? value : value.slice(0, -1);
  const whose = list(asked.map((each) => each.key));
  return `What ${many ? 'are all the' : 'is the'} special magic ${noun} for ${whose} mentioned in the provided text?`;
}

function words(random: Random): string {
  return `${ADJECTIVES[random.below(ADJECTIVES.length)]}-${NOUNS[random.below(NOUNS.length)]}`;
}

function uuid(random: Random): string {
  const hex = (count: number) => Array.from({ length: count }, () => random.below(16).toString(16)).join('');
  const variant = (8 + random.below(4)).toString(16);
  return `${hex(8)}-${hex(4)}-4${hex(3)}-${variant}${hex(3)}-${hex(12)}`;
}

/** When words run out, a key of two pairs: a haystack of needles needs more keys than there are pairs. */
function unused(used: Set<string>, draw: () => string): string {
  for (let tries = 0; ; tries++) {
    const key = tries < 20 ? draw() : `${draw()}-${draw()}`;
    if (used.has(key)) continue;
    used.add(key);
    return key;
  }
}

function list(items: readonly string[]): string {
  return items.length < 2 ? items.join() : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}
