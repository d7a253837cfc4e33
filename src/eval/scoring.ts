/** How right an answer is, from 0 to 1. */

/**
 * `all`: the share of expected strings that the answer contains; `substring`: whether it contains any (both as
 * in RULER, without regard to case); `exact`: whether it is one of them; `f1`: overlap of words with the best one.
 */
export const MEASURES = ['all', 'substring', 'exact', 'f1'] as const;
export type Measure = (typeof MEASURES)[number];

/** @param expected at least one. */
export function score(measure: Measure, answer: string, expected: readonly string[]): number {
  const found = (text: string) => answer.toLowerCase().includes(text.toLowerCase());
  switch (measure) {
    case 'all':
      return expected.filter(found).length / expected.length;
    case 'substring':
      return expected.some(found) ? 1 : 0;
    case 'exact':
      return expected.some((text) => normal(text) === normal(answer)) ? 1 : 0;
    case 'f1':
      return Math.max(...expected.map((text) => f1(words(normal(answer)), words(normal(text)))));
  }
}

/** SQuAD's normal form: lower case, without punctuation, articles and repeated space. */
function normal(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s]/gu, '')
    .replace(/\b(a|an|the)\b/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}

/** Two empty answers agree. */
function f1(ours: readonly string[], theirs: readonly string[]): number {
  return ours.length === 0 && theirs.length === 0 ? 1 : overlap(ours, theirs);
}

/** Harmonic mean of precision and recall over words, each counted as often as it stands. */
export function overlap(ours: readonly string[], theirs: readonly string[]): number {
  const left = new Map<string, number>();
  for (const word of theirs) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of ours) {
    const more = left.get(word) ?? 0;
    if (more === 0) continue;
    left.set(word, more - 1);
    common++;
  }
  return common === 0 ? 0 : (2 * common) / (ours.length + theirs.length);
}

function words(text: string): string[] {
  return text === '' ? [] : text.split(' ');
}
