/** A run's digest: one line or one section for each document, whatever became of it. */
import type { BatchDeps } from '../../batch/queues.js';
import { objectLines } from '../../batch/object-lines.js';
import { requireSuccess } from '../../batch/success.js';
import { readThen } from '../../batch/then.js';
import { outcome } from '../../contracts/outcome.js';
import type { RunBatch, Schedule, SourceDocument } from '../../contracts/schedule.js';
import { scheduleKeys } from '../../platform/keys.js';
import { requestId } from './build.js';

export interface DigestEntry {
  document: SourceDocument;
  status: 'answered' | 'failed' | 'cancelled' | 'expired' | 'refused';
  answer: string | null;
  /** In how many parts it was read; the answer is then one about their answers. */
  parts: number;
  error: { code: string; message: string } | null;
}

/** In the order of `documents`. The batch, if there is one, must be finished, and so must the one over parts' answers. */
export async function readEntries(
  { store }: Pick<BatchDeps, 'store'>,
  documents: readonly SourceDocument[],
  batch: RunBatch | undefined,
  signal?: AbortSignal,
): Promise<DigestEntry[]> {
  const entries = new Map<string, Omit<DigestEntry, 'document' | 'parts'>>();
  if (batch !== undefined) {
    const then = batch.split.length === 0 ? undefined : await readThen(store, batch.batch_id, signal);
    for (const id of [batch.batch_id, then?.batch_id ?? []].flat()) {
      const { files } = await requireSuccess(store, id, signal);
      for (const file of [files.output, files.error]) {
        for await (const line of objectLines(store, file, signal)) {
          const { custom_id, status, answers, error } = outcome.parse(JSON.parse(line.toString('utf8')));
          entries.set(custom_id, { status, answer: answers[0]?.text ?? null, error });
        }
      }
    }
    for (const { custom_id, ...error } of then?.left_out ?? [])
      entries.set(custom_id, { status: 'failed', answer: null, error });
    for (const { url, message } of batch.refused) {
      const error = { code: 'DOCUMENT_REFUSED', message };
      entries.set(requestId(url), { status: 'refused', answer: null, error });
    }
  }
  const parts = new Map(batch?.split.map(({ url, parts }) => [url, parts]));
  return documents.map((document) => {
    const entry = entries.get(requestId(document.url));
    if (entry === undefined) throw new Error(`the batch has no outcome of ${document.url}`);
    return { document, parts: parts.get(document.url) ?? 1, ...entry };
  });
}

export function digestJsonl(entries: readonly DigestEntry[]): string {
  return entries.map((entry) => JSON.stringify(entry) + '\n').join('');
}

/** Answers are quoted, so that no text of a document becomes a heading or a link's text of ours. */
export function digestMarkdown(
  { name, input, prompt }: Pick<Schedule, 'name' | 'input' | 'prompt'>,
  run: string,
  entries: readonly DigestEntry[],
): string {
  const answered = entries.filter(({ status }) => status === 'answered').length;
  const quote = (text: string) => text.replace(/^/gm, '> ');
  const sections = entries.map(({ document, status, answer, parts, error }) => {
    const text = answer ?? `${status}: ${error?.message ?? 'no answer'}`;
    const name = document.url.startsWith(input) ? document.url.slice(input.length) : document.url;
    const read = parts > 1 ? `\nRead in ${parts} parts; this is asked of their answers.\n` : '';
    return `## ${code(name)}\n${read}\n${quote(text)}\n`;
  });
  const summary = `${entries.length} new or changed documents below ${code(input)}, ${answered} answered.`;
  return [
    `# ${name}, ${run}\n`,
    `${summary}\n`,
    `Asked of each:\n\n${quote(prompt.trim())}\n`,
    ...sections,
  ].join('\n');
}

/** A name in code marks, however many such marks and line ends it has itself. */
function code(text: string): string {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([marks]) => marks.length));
  const marks = '`'.repeat(longest + 1);
  const pad = longest > 0 ? ' ' : '';
  return `${marks}${pad}${text.replace(/[\r\n]+/g, ' ')}${pad}${marks}`;
}

/** Writes both files. Again they have the same bytes. */
export async function writeDigest(
  { store }: Pick<BatchDeps, 'store'>,
  schedule: Schedule,
  run: string,
  entries: readonly DigestEntry[],
  signal?: AbortSignal,
): Promise<{ markdown: string; jsonl: string }> {
  const folder = schedule.out ?? store.url(scheduleKeys.digests(schedule.name));
  const markdown = `${folder}${run}.md`;
  const jsonl = `${folder}${run}.jsonl`;
  await store.putUrl(jsonl, [Buffer.from(digestJsonl(entries))], signal);
  await store.putUrl(markdown, [Buffer.from(digestMarkdown(schedule, run, entries))], signal);
  return { markdown, jsonl };
}
