/** Asks every question of a file about every book of a folder: node ask.js FOLDER QUESTIONS.txt */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Longhaul } from 'longhaul';

const [folder, questionsFile] = process.argv.slice(2);
if (folder === undefined || questionsFile === undefined) {
  console.error('usage: node ask.js FOLDER QUESTIONS.txt');
  process.exit(64);
}
const lines = (await readFile(questionsFile, 'utf8')).split('\n');
const questions = lines.map((line) => line.trim()).filter((line) => line !== '');
const books = (await readdir(folder)).filter((name) => /\.(txt|md|html)$/.test(name)).sort();

const longhaul = await Longhaul.open();
try {
  const { id, created, documentTokens } = await longhaul.submit(
    books.map((name) => ({
      custom_id: name,
      document: { path: join(folder, name) },
      questions,
      max_tokens: 32,
    })),
  );
  console.error(`${id}: ${books.length} books, ${documentTokens} tokens${created ? '' : ', asked before'}`);
  let shown = '';
  const { request_counts } = await longhaul.wait(id, {
    onStatus: ({ status, request_counts: { total, pending } }) => {
      const text = `${status}: ${total - pending} of ${total} books`;
      if (text !== shown) console.error(text);
      shown = text;
    },
  });
  const cell = (text) => text.replace(/\s+/g, ' ').trim();
  for await (const { custom_id, answers, error } of longhaul.outcomes(id)) {
    if (error !== null) console.error(`${custom_id}: ${error.message} [${error.code}]`);
    for (const { question, text } of answers) console.log([custom_id, question, text].map(cell).join('\t'));
  }
  if (request_counts.answered < request_counts.total) process.exitCode = 2;
} finally {
  longhaul.close();
}
