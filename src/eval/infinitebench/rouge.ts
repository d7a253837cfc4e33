/**
 * ROUGE-Lsum (Lin, *ROUGE: A Package for Automatic Evaluation of Summaries*, 2004): a line is a sentence, words are lower
 * case letters and digits, unstemmed. For each expected sentence, the union of its longest common subsequences with all
 * sentences of the answer; no word counts more often than it stands in either text.
 * @returns F1, from 0 to 1.
 */
export function rougeLsum(answer: string, expected: string): number {
  const [ours, theirs] = [sentences(answer), sentences(expected)];
  const left = { ours: counts(ours.flat()), theirs: counts(theirs.flat()) };
  let hits = 0;
  for (const sentence of theirs) {
    const common = new Set(ours.flatMap((each) => commonPlaces(sentence, each)));
    for (const place of [...common].sort((a, b) => a - b)) {
      const word = sentence[place] ?? '';
      const [inOurs, inTheirs] = [left.ours.get(word) ?? 0, left.theirs.get(word) ?? 0];
      if (inOurs === 0 || inTheirs === 0) continue;
      left.ours.set(word, inOurs - 1);
      left.theirs.set(word, inTheirs - 1);
      hits++;
    }
  }
  return hits === 0 ? 0 : (2 * hits) / (ours.flat().length + theirs.flat().length);
}

function sentences(text: string): string[][] {
  return text
    .toLowerCase()
    .split('\n')
    .map((line) => line.match(/[a-z0-9]+/g) ?? [])
    .filter((words) => words.length > 0);
}

function counts(words: readonly string[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const word of words) found.set(word, (found.get(word) ?? 0) + 1);
  return found;
}

/** Places in `a` of one longest common subsequence; of several, as the usual table gives it from the end. */
function commonPlaces(a: readonly string[], b: readonly string[]): number[] {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => table[i * width + j] ?? 0;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      table[i * width + j] =
        a[i - 1] === b[j - 1] ? at(i - 1, j - 1) + 1 : Math.max(at(i - 1, j), at(i, j - 1));
    }
  }
  const places: number[] = [];
  for (let i = a.length, j = b.length; i > 0 && j > 0;) {
    if (a[i - 1] === b[j - 1]) {
      places.push(--i);
      j--;
    } else if (at(i, j - 1) > at(i - 1, j)) j--;
    else i--;
  }
  return places;
}
