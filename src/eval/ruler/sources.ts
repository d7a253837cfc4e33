import { readFile } from 'node:fs/promises';
import { ownHotpot, ownSquad } from './own-questions.js';
import { readHotpot, readSquad } from './question-sets.js';
import type { Sources } from './sample.js';

/**
 * @param essay a file of public-domain prose: its sentences are filler, its words the vocabulary.
 * @param files in SQuAD's and HotpotQA's layouts; without one, our own small set.
 */
export async function readSources(
  essay: string,
  files: { squad?: string; hotpot?: string } = {},
): Promise<Sources> {
  const text = (await readFile(essay, 'utf8')).replace(/\s+/g, ' ');
  return {
    essay: (text.match(/[^.!?]+[.!?]+["'”’)]*/g) ?? []).map((sentence) => sentence.trim()),
    vocabulary: [...new Set(text.match(/\b[a-z]{4,12}\b/g) ?? [])],
    questions: {
      squad: files.squad === undefined ? ownSquad : await readSquad(files.squad),
      hotpot: files.hotpot === undefined ? ownHotpot : await readHotpot(files.hotpot),
    },
  };
}
