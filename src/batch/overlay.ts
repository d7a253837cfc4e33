/** A batch's results with the answers of its retries in the places that had none. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, open, rename, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { OutcomeStatus, Success } from '../contracts/outcome.js';
import { StoreError } from '../platform/errors.js';
import { canonicalJson } from './canonical.js';
import { readManifest, type IndexedManifest } from './manifest.js';
import type { BatchDeps } from './queues.js';
import { downloadResults } from './results.js';
import { checkRetries, findRetries } from './retries.js';
import { requireSuccess } from './success.js';
import { customIdOf, readUnanswered } from './unanswered.js';

/** `_SUCCESS` of an overlaid download. Its files are nowhere in S3. */
export interface Overlay {
  format: 'longhaul-overlay/1';
  batch_id: string;
  /** What was laid over it, oldest first. */
  retries: string[];
  counts: Success['counts'];
  /** Of all these batches together. */
  usage: Success['usage'];
  files: Record<'output' | 'error', { bytes: number; sha256: string }>;
}

/** Where the line of a request stands that counts so far. */
interface Place {
  status: OutcomeStatus;
  file: FileHandle;
  start: number;
  length: number;
}

/**
 * Writes `output.jsonl`, `error.jsonl` and, last, `_SUCCESS` into `directory`: each request of the
 * batch once, in its order. An answer stands, the batch's own first and then the oldest retry's; a
 * request without any keeps the newest retry's error. Lines are those of the batch that they come
 * from, byte for byte. Without `named`, all retries found in S3 are laid over.
 * @throws LonghaulError `NOT_FINISHED` when the batch or a retry is not, `NOT_A_RETRY`; NotFoundError.
 */
export async function downloadOverlay(
  deps: Pick<BatchDeps, 'store'>,
  id: string,
  directory: string,
  named: readonly string[] = [],
  signal?: AbortSignal,
): Promise<{ overlay: Overlay; output: string; error: string }> {
  const { store } = deps;
  await requireSuccess(store, id, signal);
  const headers =
    named.length === 0 ? await findRetries(store, id, signal) : await checkRetries(store, id, named, signal);
  const retries = headers.map(({ batch_id }) => batch_id);
  // A retry under way would be missing without a word.
  for (const retry of retries) await requireSuccess(store, retry, signal);

  await mkdir(directory, { recursive: true });
  // That of another overlay must not vouch for these files.
  await rm(join(directory, '_SUCCESS'), { force: true });
  const scratch = await mkdtemp(join(directory, '.overlay-'));
  const handles: FileHandle[] = [];
  try {
    const places = new Map<string, Place>();
    const usage = { document_tokens: 0, query_tokens: 0, answer_tokens: 0 };
    let source: IndexedManifest | undefined;
    for (const batch of [id, ...retries]) {
      const results = await downloadResults(deps, batch, join(scratch, batch), signal);
      const manifest = await readManifest(store, batch, signal);
      source ??= manifest;
      for (const name of Object.keys(usage) as (keyof typeof usage)[]) {
        usage[name] += results.success.usage[name];
      }
      const ends = await readUnanswered(store, manifest, results.success, signal);
      const statuses = new Map<string, OutcomeStatus>(
        manifest.requests.map((r) => [r.custom_id, ends.get(r.ordinal) ?? 'answered']),
      );
      for (const path of [results.output, results.error]) {
        const file = await open(path);
        handles.push(file);
        await layOver(places, file, statuses);
      }
    }
    const overlay = await write(directory, source, places, { id, retries, usage });
    return { overlay, output: join(directory, 'output.jsonl'), error: join(directory, 'error.jsonl') };
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
    await rm(scratch, { recursive: true, force: true });
  }
}

async function layOver(
  places: Map<string, Place>,
  file: FileHandle,
  statuses: ReadonlyMap<string, OutcomeStatus>,
): Promise<void> {
  for await (const { line, start } of fileLines(file)) {
    const customId = customIdOf(line);
    const status = statuses.get(customId);
    if (status === undefined)
      throw new StoreError('FILES', `a file holds request ${customId}, which its batch does not have`);
    if (places.get(customId)?.status === 'answered') continue;
    places.set(customId, { status, file, start, length: line.length });
  }
}

async function* fileLines(file: FileHandle): AsyncGenerator<{ line: Buffer; start: number }> {
  let rest: Buffer = Buffer.alloc(0);
  let start = 0;
  for await (const chunk of file.createReadStream({ autoClose: false, start: 0 }) as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, from)) {
      yield { line: rest.subarray(from, end), start: start + from };
      from = end + 1;
    }
    start += from;
    rest = rest.subarray(from);
  }
}

async function write(
  directory: string,
  source: IndexedManifest | undefined,
  places: ReadonlyMap<string, Place>,
  { id, retries, usage }: { id: string; retries: string[]; usage: Success['usage'] },
): Promise<Overlay> {
  const requests = source?.requests ?? [];
  const counts = { total: requests.length, answered: 0, failed: 0, cancelled: 0, expired: 0 };
  const chosen = requests.map(({ custom_id }) => {
    const place = places.get(custom_id);
    if (place === undefined)
      throw new StoreError('FILES', `the files of batch ${id} lack request ${custom_id}`);
    counts[place.status] += 1;
    return place;
  });
  const answered = chosen.filter(({ status }) => status === 'answered');
  const rest = chosen.filter(({ status }) => status !== 'answered');
  const files = {
    output: await writeLines(join(directory, 'output.jsonl'), answered),
    error: await writeLines(join(directory, 'error.jsonl'), rest),
  };
  const overlay: Overlay = { format: 'longhaul-overlay/1', batch_id: id, retries, counts, usage, files };
  const marker = join(directory, '_SUCCESS');
  await writeFile(marker + '.part', canonicalJson(overlay) + '\n');
  await rename(marker + '.part', marker);
  return overlay;
}

async function writeLines(
  path: string,
  places: readonly Place[],
): Promise<{ bytes: number; sha256: string }> {
  const part = `${path}.${process.pid}.part`;
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    const out = await open(part, 'w');
    try {
      for (const { file, start, length } of places) {
        // With its newline.
        const line = Buffer.alloc(length + 1);
        await file.read(line, 0, length + 1, start);
        hash.update(line);
        bytes += line.length;
        await out.writeFile(line);
      }
      await out.sync();
    } finally {
      await out.close();
    }
    await rename(part, path);
  } finally {
    await rm(part, { force: true });
  }
  return { bytes, sha256: hash.digest('hex') };
}
