/** A small set of our own, about people and places that do not exist: no model knows them from elsewhere. */
import type { QuestionSet } from './sample.js';

const PEOPLE = [
  ['Orla Vint', 'Harrowgate', 'a glass blower', 'a lamp that burns under water'],
  ['Tomas Brekke', 'Sundmoor', 'a clockmaker', 'a tide clock with four hands'],
  ['Ines Calloway', 'Port Amber', 'a surveyor', 'the first map of the Salt Hills'],
  ['Rufus Adeyemi', 'Lower Kestrel', 'a bell founder', 'the bell of the Grey Tower'],
  ['Mirelle Dunmore', 'Ashby Cross', 'a botanist', 'a fern that closes at noon'],
  ['Jonas Pellworth', 'Farhaven', 'a bridge builder', 'the covered bridge at Eel Ford'],
  ['Sabine Okoro', 'Windle', 'a printer', 'an atlas bound in cork'],
  ['Peder Lysaker', 'Stone Quay', 'a shipwright', 'a ferry without a keel'],
] as const;
const PLACES = [
  ['Harrowgate', 'the river Tarn', '1412'],
  ['Sundmoor', 'the Bay of Reeds', '1533'],
  ['Port Amber', 'the Copper Sea', '1608'],
  ['Lower Kestrel', 'the river Vey', '1377'],
  ['Ashby Cross', 'Lake Morrow', '1490'],
  ['Farhaven', 'the Sound of Iver', '1655'],
  ['Windle', 'the river Loam', '1581'],
  ['Stone Quay', 'the Gulf of Hale', '1719'],
] as const;

const life = ([name, home, trade, work]: (typeof PEOPLE)[number]) =>
  `${name} was ${trade} who was born in ${home} and worked there for forty years. The best known work of ${name} is ${work}.`;
const place = ([name, water, year]: (typeof PLACES)[number]) =>
  `${name} is a town on ${water}. It was given its charter in ${year}, and its market is held on the first day of each month.`;

const paragraphs = [...PEOPLE.map(life), ...PLACES.map(place)];
const townOf = (home: string) => PLACES.findIndex(([name]) => name === home);

/** One paragraph answers. */
export const ownSquad: QuestionSet = {
  paragraphs,
  items: [
    ...PEOPLE.flatMap(([name, home, , work], i) => [
      { question: `Where was ${name} born?`, answers: [home], gold: [i] },
      { question: `What is the best known work of ${name}?`, answers: [work], gold: [i] },
    ]),
    ...PLACES.map(([name, , year], i) => ({
      question: `In which year was ${name} given its charter?`,
      answers: [year],
      gold: [PEOPLE.length + i],
    })),
  ],
};

/** Two paragraphs answer together: of a person's life, and of the town it names. */
export const ownHotpot: QuestionSet = {
  paragraphs,
  items: PEOPLE.flatMap(([name, home], i) => {
    const town = townOf(home);
    const gold = [i, PEOPLE.length + town];
    const [, water, year] = PLACES[town] ?? ['', '', ''];
    return [
      { question: `On which water lies the town where ${name} was born?`, answers: [water], gold },
      { question: `In which year was the birthplace of ${name} given its charter?`, answers: [year], gold },
    ];
  }),
};
