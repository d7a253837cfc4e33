import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  confirmAnswers,
  describeCell,
  tieOf,
  type CellProgress,
} from '../../src/gpu-worker/check/confirm.js';
import { readRecordedDocuments } from '../../src/gpu-worker/check/confirm-file.js';
import { compiled } from '../support/compiled.js';

interface Row {
  task: string;
  tokens_n: number;
  doc: string;
  methods: { name: string; method: string; l_p: number; predicted: number[]; margin: number }[];
}

/** Two multi-value documents at 2K: their answers with APB need what anchors do not hold. */
const slice = gunzipSync(readFileSync('training/confirm/demo.jsonl.gz'))
  .toString()
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Row)
  .filter(({ task, tokens_n }) => task === 'multivalue' && tokens_n === 2048)
  .slice(0, 2);

const children: ChildProcess[] = [];
const onSpawn = (_rank: number, child: ChildProcess) => void children.push(child);
const modelDir = 'models/demo';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'longhaul-confirm-'));
  children.length = 0;
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  expect(children.filter((child) => child.exitCode === null && child.signalCode === null)).toEqual([]);
});

/** The slice as a file, after `edit`. */
function fileOf(edit: (rows: Row[]) => void = () => undefined): string {
  const rows = structuredClone(slice);
  edit(rows);
  const path = join(folder, 'documents.jsonl.gz');
  writeFileSync(path, gzipSync(rows.map((row) => JSON.stringify(row) + '\n').join('')));
  return path;
}

/** Changes the third token of the first document's answer under full attention. */
function corrupt([row]: Row[], margin: number): void {
  const answer = row?.methods.find(({ method }) => method === 'full');
  if (!answer) throw new Error('the file has no answer under full attention');
  answer.predicted[2] = (answer.predicted[2] as number) === 20 ? 21 : 20;
  answer.margin = margin;
}

/** `longhaul engine confirm` as a process. */
function command(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((done, reject) => {
    const child = spawn(process.execPath, [compiled('src/cli/main.ts'), 'engine', 'confirm', ...args]);
    let [out, err] = ['', ''];
    child.stdout.on('data', (data) => (out += String(data)));
    child.stderr.on('data', (data) => (err += String(data)));
    child.once('error', reject);
    child.once('close', (code) => done({ code, out, err }));
  });
}

test("full attention and APB over rank processes that stay give PyTorch's tokens", async () => {
  const progress: CellProgress[] = [];
  const cells = await confirmAnswers({
    file: fileOf(),
    modelDir,
    onSpawn,
    onProgress: (each) => progress.push(each),
  });
  expect(cells.map(({ method, ranks, documents, same, ok }) => [method, ranks, documents, same, ok])).toEqual(
    [
      ['full', 1, 2, 2, true],
      ['apb8', 8, 2, 2, true],
    ],
  );
  expect(cells.map(({ right, rightPytorch }) => right - rightPytorch)).toEqual([0, 0]);
  expect(children).toHaveLength(9); // one process per rank for all documents
  expect(progress.map(({ method, done }) => `${method} ${done}`).join(', ')).toBe(
    'full 0, full 1, full 2, apb8 0, apb8 1, apb8 2',
  );
});

test('an answer that differs fails the command, with its line and margin', async () => {
  const file = fileOf((rows) => corrupt(rows, 0.06));
  const { code, out, err } = await command(file, '--methods', 'full', '--lengths', '2048', '--threads', '1');
  expect(code).toBe(1);
  expect(out).toMatch(
    /^FAIL multivalue, 2048 tokens, full \(1 rank, cpu .*\): 2 documents, 1 with PyTorch's tokens/,
  );
  expect(out).toContain(
    "! line 1 differs from token 2 on; PyTorch's least margin in this answer is 0.06: no near-tie",
  );
  expect(err).toContain('2/2 documents');
});

test('a near-tie is excused, and said', async () => {
  const file = fileOf((rows) => corrupt(rows, 0.05));
  const [cell] = await confirmAnswers({ file, modelDir, methods: ['full'], onSpawn });
  expect(cell).toMatchObject({ same: 1, ok: true, differences: [{ line: 1, at: 2, excused: true }] });
  expect(cell && describeCell(cell)).toMatch(/^ok .*\n.*near-tie \(at most 0.05\), excused/);
});

test('a backend in bfloat16 may differ where PyTorch in bfloat16 does, and no further', () => {
  const documents = readRecordedDocuments(fileOf());
  const answers = documents.flatMap(({ methods }) => methods);
  for (const answer of answers) answer.predicted_bf16 = answer.predicted;
  expect(tieOf('cuda (NVIDIA H100)', documents)).toBe(0.05);
  for (const [index, margin] of [0.2, 0.3, 0.1].entries()) {
    Object.assign(answers[index] as object, { predicted_bf16: [1], margin });
  }
  expect(tieOf('cuda (NVIDIA H100)', documents)).toBe(0.3);
  expect(tieOf('cpu (avx2, 1 thread)', documents)).toBe(0.05);
});

test('an APB prefill that passes nothing is seen', async () => {
  const file = fileOf((rows) => rows.forEach(({ methods }) => methods.forEach((each) => (each.l_p = 0))));
  const [cell] = await confirmAnswers({ file, modelDir, methods: ['apb'], onSpawn });
  expect(cell).toMatchObject({
    ok: false,
    differences: [
      { line: 1, excused: false },
      { line: 2, excused: false },
    ],
  });
});

test('a rank that dies ends the command with its name', async () => {
  const confirm = confirmAnswers({
    file: fileOf(),
    modelDir,
    methods: ['apb'],
    onSpawn: (rank, child) => {
      onSpawn(rank, child);
      if (rank === 3) child.once('message', () => child.kill('SIGKILL'));
    },
  });
  await expect(confirm).rejects.toMatchObject({
    code: 'CHECK_RANK',
    message: 'rank 3 of 8 ended by SIGKILL before it had a result',
  });
});

test('an aborted run leaves no rank behind', async () => {
  const controller = new AbortController();
  const confirm = confirmAnswers({
    file: fileOf(),
    modelDir,
    signal: controller.signal,
    onSpawn,
    onProgress: ({ done }) => done === 1 && controller.abort(new Error('stopped by the person')),
  });
  await expect(confirm).rejects.toThrow('stopped by the person');
});

test('what cannot be used is refused by file, line and field', async () => {
  const refused = (file: string, code: string, message: RegExp, more = {}) =>
    expect(confirmAnswers({ file, modelDir, onSpawn, ...more })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as unknown,
    });
  const broken = (edit: (row: Row) => void) => fileOf((rows) => edit(rows[1] as Row));

  await refused('/nowhere.gz', 'CONFIRM_FILE', /\/nowhere\.gz cannot be used: ENOENT.*write it anew/);
  await refused(
    broken((row) => (row.doc = 'AAAA')),
    'CONFIRM_FILE',
    /line 2: doc has 3 bytes, not two for each of 2048/,
  );
  await refused(
    broken((row) => (row.methods = [])),
    'CONFIRM_FILE',
    /line 2: [^]*methods/,
  );
  await refused(
    broken((row) => row.methods.forEach((each) => (each.method = 'star'))),
    'CONFIRM_FILE',
    /line 2: [^]*methods\[0\]\.method/,
  );
  const text = join(folder, 'text.jsonl');
  writeFileSync(text, '{"task":\n');
  await refused(text, 'CONFIRM_FILE', /text\.jsonl cannot be used: line 1: SyntaxError/);
  const cut = join(folder, 'cut.gz');
  writeFileSync(cut, readFileSync(fileOf()).subarray(0, 1000));
  await refused(cut, 'CONFIRM_FILE', /cut\.gz cannot be used: unexpected end of file/);
  writeFileSync(text, '\n');
  await refused(text, 'CONFIRM_FILE', /holds no document/);

  await refused(fileOf(), 'CONFIRM_EMPTY', /choose among .*: multivalue 2048 full, multivalue 2048 apb$/, {
    tasks: ['passkey'],
  });
  await refused(fileOf(), 'CONFIRM_MODEL', /config\.json cannot be used: .*--model/, {
    modelDir: '/nowhere',
  });
  expect(children).toEqual([]);
});
