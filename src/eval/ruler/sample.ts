/** What a task's generator gives, and what it draws from. */
import type { Random } from '../../platform/random.js';

/** One document with its question, at any number of filler units. */
export interface Sample {
  question: string;
  /** What a right answer contains: all of them, or for `substring` any of them. */
  expected: string[];
  /**
   * The document with so many units of filler (sentences, words, lines or paragraphs: the task's own).
   * More units make a longer document; equal numbers make the same one.
   */
  build: (units: number) => string;
}

export interface Sources {
  /** Sentences of prose, in their order. */
  essay: readonly string[];
  /** Different words, for the word-counting tasks. */
  vocabulary: readonly string[];
  questions: { squad: QuestionSet; hotpot: QuestionSet };
}

/** Questions that paragraphs of the set answer; other paragraphs of the set distract. */
export interface QuestionSet {
  items: readonly {
    question: string;
    answers: readonly string[];
    gold: readonly number[];
    /** Paragraphs that distract before others do: of the same article. */
    near?: readonly number[];
  }[];
  paragraphs: readonly string[];
}

/** @param length of the document in tokens, for settings that depend on it. */
export type Generate = (random: Random, sources: Sources, length: number) => Sample;

/** Items by index, each drawn once and in order, so that longer documents begin like shorter ones. */
export function drawn<T>(draw: (index: number) => T): (count: number) => T[] {
  const items: T[] = [];
  return (count) => {
    while (items.length < count) items.push(draw(items.length));
    return items.slice(0, count);
  };
}

/** Puts each insertion at its depth in [0, 1] of the units, insertions in the order given. */
export function placed(
  units: readonly string[],
  insertions: readonly { text: string; depth: number }[],
): string[] {
  const out: string[] = [];
  const sorted = [...insertions].sort((a, b) => a.depth - b.depth);
  let next = 0;
  for (let at = 0; at <= units.length; at++) {
    while (next < sorted.length && Math.floor((sorted[next]?.depth ?? 0) * units.length) <= at) {
      out.push(sorted[next++]?.text ?? '');
    }
    if (at < units.length) out.push(units[at] ?? '');
  }
  return out;
}
