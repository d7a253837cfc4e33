/** Questions whose paragraphs stand among others of the same set, as numbered documents. */
import { drawn, type Generate, type QuestionSet } from './sample.js';

/** A unit of filler is one more paragraph, first of the same article; when the set has no more, five sentences of the essay. */
export function questions(set: 'squad' | 'hotpot'): Generate {
  return (random, sources) => {
    const { items, paragraphs }: QuestionSet = sources.questions[set];
    const item = items[random.below(items.length)];
    if (item === undefined) throw new Error(`the ${set} questions are empty`);
    const gold = item.gold.map((index) => ({ text: paragraphs[index] ?? '', depth: random.next() }));
    const near = random.shuffle([...(item.near ?? [])]);
    const far = paragraphs.map((_, i) => i).filter((i) => !item.gold.includes(i) && !near.includes(i));
    const order = [...near, ...random.shuffle(far)];
    const start = random.below(sources.essay.length);
    const distractors = drawn((i) => {
      const index = order[i];
      if (index !== undefined) return paragraphs[index] ?? '';
      const from = start + (i - order.length) * 5;
      return Array.from({ length: 5 }, (_, k) => sources.essay[(from + k) % sources.essay.length]).join(' ');
    });
    return {
      question: item.question,
      expected: [...item.answers],
      build: (units) => {
        const all = distractors(units);
        for (const { text, depth } of gold) all.splice(Math.floor(depth * (all.length + 1)), 0, text);
        return all.map((text, i) => `Document ${i + 1}:\n${text}`).join('\n\n');
      },
    };
  };
}
