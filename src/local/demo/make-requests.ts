/**
 * The demo's input: long public-domain texts with facts hidden in them, the questions about those
 * facts, and the answers to expect.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessCode, magicNumbers, passKey, type Fact } from './facts.js';
import { Random } from '../../platform/random.js';

/** How many characters of English prose one token of the demo model covers; document lengths need no more precision. */
const CHARACTERS_PER_TOKEN = 2.85;
const NOISE = 'The sky is blue. The tree is green. The flower is red. The sun is yellow.';

export interface Expected {
  custom_id: string;
  /** One answer per question; null: the request must end as an error. */
  answers: string[] | null;
}

interface Plan {
  custom_id: string;
  text: 'moby-dick' | 'state-of-the-union' | 'noise';
  tokens: number;
  facts: Fact[];
  /** Must end as an error. */
  fails?: boolean;
}

function plans(random: Random): Plan[] {
  const K = 1000;
  const pass = () => passKey(random.digits(10));
  return [
    { custom_id: 'noise-pass-key', text: 'noise', tokens: 16 * K, facts: [passKey('688435772345')] },
    { custom_id: 'whale-pass-key', text: 'moby-dick', tokens: 30 * K, facts: [pass()] },
    { custom_id: 'whale-needle-8k', text: 'moby-dick', tokens: 8 * K, facts: [magicNumbers(random, 1, 1)] },
    { custom_id: 'whale-needle-16k', text: 'moby-dick', tokens: 16 * K, facts: [magicNumbers(random, 1, 1)] },
    {
      custom_id: 'whale-many-needles',
      text: 'moby-dick',
      tokens: 9 * K,
      facts: [magicNumbers(random, 8, 3)],
    },
    { custom_id: 'whale-code', text: 'moby-dick', tokens: 8 * K, facts: [accessCode(random)] },
    {
      custom_id: 'whale-two-facts',
      text: 'moby-dick',
      tokens: 12 * K,
      facts: [pass(), magicNumbers(random, 1, 1)],
    },
    { custom_id: 'union-pass-key', text: 'state-of-the-union', tokens: 8 * K, facts: [pass()] },
    {
      custom_id: 'union-needle-24k',
      text: 'state-of-the-union',
      tokens: 24 * K,
      facts: [magicNumbers(random, 1, 1)],
    },
    {
      custom_id: 'union-many-needles',
      text: 'state-of-the-union',
      tokens: 8 * K,
      facts: [magicNumbers(random, 8, 3)],
    },
    { custom_id: 'union-code', text: 'state-of-the-union', tokens: 10 * K, facts: [accessCode(random)] },
    {
      custom_id: 'union-two-facts',
      text: 'state-of-the-union',
      tokens: 8 * K,
      facts: [pass(), accessCode(random)],
    },
    { custom_id: 'too-long', text: 'moby-dick', tokens: 40 * K, facts: [pass()], fails: true },
  ];
}

/** Sentences of a text from a random place on, joined by spaces, of about `characters` in all. */
function excerpt(text: string, characters: number, random: Random): string[] {
  const sentences = text.replace(/\s+/g, ' ').match(/[^.!?]+[.!?]+["')]*\s?/g) ?? [];
  const chosen: string[] = [];
  let at = Math.floor(random.next() * sentences.length);
  for (let size = 0; size < characters; at++) {
    const sentence = (sentences[at % sentences.length] ?? '').trim();
    chosen.push(sentence);
    size += sentence.length + 1;
  }
  return chosen;
}

function hide(sentences: string[], facts: Fact[], random: Random): string {
  const slots = facts.flatMap((fact) => {
    const depths = fact.sentences.map(() => random.next()).sort((a, b) => a - b);
    return fact.sentences.map((sentence, i) => ({
      sentence,
      at: Math.floor((depths[i] ?? 0) * sentences.length),
    }));
  });
  const out = sentences.map((sentence, i) => [
    ...slots.filter(({ at }) => at === i).map((s) => s.sentence),
    sentence,
  ]);
  return out.flat().join(' ');
}

/**
 * Writes `requests.jsonl` and its documents into `folder`.
 * @param texts folder of the source texts.
 */
export function makeRequests(folder: string, texts: string): { file: string; expected: Expected[] } {
  const random = new Random(20260101);
  mkdirSync(join(folder, 'documents'), { recursive: true });
  const source = new Map(
    ['moby-dick', 'state-of-the-union'].map((n) => [n, readFileSync(join(texts, n + '.txt'), 'utf8')]),
  );
  const expected: Expected[] = [];
  const lines = plans(random).map(({ custom_id, text, tokens, facts, fails }) => {
    const prose = source.get(text) ?? (NOISE + ' ').repeat(tokens);
    const path = `documents/${custom_id}.txt`;
    writeFileSync(
      join(folder, path),
      hide(excerpt(prose, tokens * CHARACTERS_PER_TOKEN, random), facts, random),
    );
    const questions = facts.flatMap((fact) => fact.questions);
    expected.push({ custom_id, answers: fails ? null : questions.map((q) => q.answer) });
    return JSON.stringify({
      custom_id,
      document: { path },
      questions: questions.map((q) => q.question),
      max_tokens: 24,
    });
  });
  const file = join(folder, 'requests.jsonl');
  writeFileSync(file, lines.join('\n') + '\n');
  return { file, expected };
}
