/**
 * Asks questions about one text, through OpenAI's own client:
 *
 *   OPENAI_BASE_URL=http://127.0.0.1:7080/v1 OPENAI_API_KEY=lh-... node ask.js TEXT QUESTION...
 */
import { Buffer } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { toFile } from 'openai';

const [path, ...questions] = process.argv.slice(2);
if (path === undefined || questions.length === 0) {
  console.error('usage: node ask.js TEXT QUESTION...');
  process.exit(64);
}
const client = new OpenAI();
const text = await readFile(path, 'utf8');

// All that comes before the last message is the document: these lines share one reading of it.
const lines = questions.map((question, i) => ({
  custom_id: `question-${i + 1}`,
  method: 'POST',
  url: '/v1/chat/completions',
  body: {
    model: process.env['MODEL'] ?? 'demo',
    messages: [
      { role: 'user', content: text },
      { role: 'user', content: question },
    ],
    max_tokens: 32,
  },
}));
const input = await client.files.create({
  purpose: 'batch',
  file: await toFile(
    Buffer.from(lines.map((line) => JSON.stringify(line) + '\n').join('')),
    'questions.jsonl',
  ),
});
let batch = await client.batches.create({
  input_file_id: input.id,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
});
while (['validating', 'in_progress', 'finalizing'].includes(batch.status)) {
  const { total, completed } = batch.request_counts;
  console.error(`${batch.id} ${batch.status}: ${completed} of ${total}`);
  await sleep(1000);
  batch = await client.batches.retrieve(batch.id);
}
if (batch.status !== 'completed') {
  console.error(JSON.stringify(batch.errors ?? batch.status, undefined, 2));
  process.exit(1);
}
const answers = await (await client.files.content(batch.output_file_id)).text();
for (const line of answers.split('\n').filter(Boolean)) {
  const { custom_id, response } = JSON.parse(line);
  console.log(`${custom_id}: ${response.body.choices[0].message.content}`);
}
const errors = await (await client.files.content(batch.error_file_id)).text();
if (errors !== '') {
  console.error(errors);
  process.exitCode = 2;
}
