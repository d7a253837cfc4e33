/** `make demo`: the whole path on this machine, with the same commands that a person would type. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { outcome, type Outcome } from '../../contracts/outcome.js';
import { childEnvironment } from '../../platform/config.js';
import { LonghaulError } from '../../platform/errors.js';
import { packageRoot } from '../layout.js';
import { makeRequests, type Expected } from './make-requests.js';

/** What `longhaul submit --wait` exits with when some requests ended without an answer. */
const SOME_FAILED = 2;

export interface DemoOptions {
  /** Everything the demo writes goes here, its own stack included: a stack of the person's is left alone. */
  directory: string;
  ranks: number;
  backend: string;
  comm: string;
  /** One JSON object on stdout in place of the table; what the commands say goes to stderr. */
  json?: boolean;
}

/** @returns true when every answer is the expected one. */
export async function runDemo({ directory, ranks, backend, comm, json }: DemoOptions): Promise<boolean> {
  const program = join(packageRoot, 'bin/longhaul.js');
  const longhaul = (...args: string[]) =>
    run(process.execPath, [program, ...args], directory, json === true ? 2 : 1);
  const started = Date.now();
  // A Ctrl-C reaches the command that runs; we stay to take the stack down.
  const stay = () => undefined;
  process.on('SIGINT', stay);
  const results = join(directory, 'results');
  let expected: Expected[];
  try {
    if (existsSync(directory)) await expectExit(longhaul('local', 'down'), [0], 'local down');
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true });
    const requests = makeRequests(directory, join(packageRoot, 'demo/texts'));
    expected = requests.expected;
    const ranksOption = ['--ranks', String(ranks)];
    const model = ['--model', join(packageRoot, 'models/demo')];
    await expectExit(
      longhaul('local', 'up', ...ranksOption, '--backend', backend, '--comm', comm, ...model),
      [0],
      'local up',
    );
    const submit = ['submit', requests.file, '--allow-too-long', '--method', 'apb', ...ranksOption];
    await expectExit(longhaul(...submit, '--wait', '--out', results), [0, SOME_FAILED], 'submit');
  } finally {
    await expectExit(longhaul('local', 'down'), [0], 'local down');
    process.off('SIGINT', stay);
  }
  const outcomes = ['output.jsonl', 'error.jsonl'].flatMap((name) => readOutcomes(join(results, name)));
  const rows = expected.flatMap((e) =>
    compare(
      e,
      outcomes.find((o) => o.custom_id === e.custom_id),
    ),
  );
  const right = rows.filter((row) => row.right).length;
  const seconds = (Date.now() - started) / 1000;
  const files = ['output.jsonl', 'error.jsonl', '_SUCCESS'].map((name) => join(results, name));
  if (json === true) {
    process.stdout.write(JSON.stringify({ right, total: rows.length, seconds, answers: rows, files }) + '\n');
  } else {
    printTable(rows);
    console.log(`\n${right} of ${rows.length} as expected, ${seconds.toFixed(0)} s in all`);
    for (const file of files) console.log(`  ${file}`);
  }
  return right === rows.length && existsSync(join(results, '_SUCCESS'));
}

function readOutcomes(path: string): Outcome[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => outcome.parse(JSON.parse(line)));
}

interface Row {
  custom_id: string;
  question: string;
  answer: string;
  expected: string;
  right: boolean;
  tokens: string;
  seconds: string;
  method: string;
  backend: string;
  ranks: string;
}

function compare(expected: Expected, found: Outcome | undefined): Row[] {
  const e = found?.execution;
  const common = {
    custom_id: expected.custom_id,
    tokens: String(found?.usage?.document_tokens ?? '-'),
    seconds: e === null || e === undefined ? '-' : (e.prefill_seconds + e.decode_seconds).toFixed(1),
    method: e?.method ?? '-',
    backend: e?.backend ?? '-',
    ranks: String(e?.ranks ?? '-'),
  };
  if (expected.answers === null) {
    const answer = found?.error
      ? `${found.error.code}: ${found.error.message}`
      : (found?.status ?? 'no outcome');
    return [{ ...common, question: '', answer, expected: 'an error', right: found?.status === 'failed' }];
  }
  return expected.answers.map((want, i) => {
    const got = found?.answers[i];
    const answer = got?.text ?? found?.error?.message ?? 'no answer';
    return { ...common, question: got?.question ?? '', answer, expected: want, right: answer === want };
  });
}

function printTable(rows: Row[]): void {
  const columns = [
    'custom_id',
    'question',
    'answer',
    'expected',
    'right?',
    'tokens',
    'seconds',
    'method',
    'backend',
    'ranks',
  ];
  const limit = [20, 44, 40, 14, 6, 7, 7, 6, 24, 5];
  const cut = (text: string, width: number) => (text.length > width ? text.slice(0, width - 1) + '…' : text);
  const cells = rows.map((r) =>
    [
      r.custom_id,
      r.question,
      r.answer,
      r.expected,
      r.right ? 'yes' : 'NO',
      r.tokens,
      r.seconds,
      r.method,
      r.backend,
      r.ranks,
    ].map((text, i) => cut(text, limit[i] ?? 10)),
  );
  const widths = columns.map((name, i) => Math.max(name.length, ...cells.map((row) => row[i]?.length ?? 0)));
  const line = (row: string[]) =>
    row
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  console.log('\n' + line(columns));
  console.log(widths.map((w) => '-'.repeat(w)).join('  '));
  for (const row of cells) console.log(line(row));
}

function run(command: string, args: string[], cwd: string, stdout: number): Promise<number> {
  return new Promise((resolve, reject) => {
    // Settings that the person made for other deployments must not reach the demo's stack.
    const child = spawn(command, args, {
      cwd,
      env: childEnvironment({}),
      stdio: ['inherit', stdout, 'inherit'],
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
}

async function expectExit(exit: Promise<number>, allowed: number[], what: string): Promise<void> {
  const code = await exit;
  if (!allowed.includes(code))
    throw new LonghaulError('DEMO', `longhaul ${what} ended with exit code ${code}; its messages are above`);
}
