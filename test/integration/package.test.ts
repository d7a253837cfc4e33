/**
 * What `npm publish` would send, used as a stranger would: unpacked into an empty folder beside the packages that it
 * says it needs and no others. `make pack-check` has npm install it, and runs the demo. Needs `make build`.
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ERROR_CODES } from '../../src/library/error-codes.js';
import { tempDir } from '../support/services.js';

const run = promisify(execFile);
type Manifest = Record<'version', string> &
  Record<'dependencies' | 'devDependencies', Record<string, string>>;

let folder: string;
let tarball: string;
let files: string[];
let manifest: Manifest;

beforeAll(async () => {
  folder = await tempDir('longhaul-package-');
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]);
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  tarball = join(folder, packed?.filename ?? '');
  files = packed?.files.map(({ path }) => path) ?? [];
  const home = join(folder, 'node_modules', 'longhaul');
  await mkdir(home, { recursive: true });
  await run('tar', ['-xzf', tarball, '-C', home, '--strip-components=1']);
  manifest = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as Manifest;
  for (const name of [...Object.keys(manifest.dependencies), '@types/node']) {
    const link = join(folder, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(resolve('node_modules', name), link);
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('publint finds nothing to say about it', async () => {
  const bytes = await readFile(tarball);
  const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(bytes).buffer }, strict: true });
  expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
});

test('it holds what the demo needs and nothing that only makes it', () => {
  const needed = [
    'bin/longhaul.js',
    'dist/dashboard/web/index.html',
    'dist/library/index.d.ts',
    'native/Makefile',
    'native/node/addon.cpp',
    'models/demo/model.safetensors',
    'demo/texts/moby-dick.txt',
    'infra/setup/redis.sh',
    'LICENSE',
  ];
  expect(files).toEqual(expect.arrayContaining(needed));
  expect(
    files.filter((path) => /^(src|test\/(?!cases)|training|bench|build|\.)|\.map$|\.tsbuildinfo$/.test(path)),
  ).toEqual([]);
});

test('its command runs, and says what is not built yet and how that is done', async () => {
  const command = (...args: string[]) =>
    run(process.execPath, [join(folder, 'node_modules/longhaul/bin/longhaul.js'), ...args], { cwd: folder });
  expect((await command('--version')).stdout).toBe(`${manifest.version}\n`);
  await expect(command('engine', 'info')).rejects.toThrow(
    /not built; run `longhaul engine build` \[ENGINE_ADDON\]/,
  );
  // Every room's modules load with nothing but the packages it names.
  const rooms = ['gateway/gateway', 'dashboard/dashboard', 'aggregator/aggregator', 'gpu-worker/worker'];
  for (const room of [...rooms, 'platform/otlp'])
    await import(join(folder, `node_modules/longhaul/dist/${room}.js`));
});

test('its entry points have types, and do what these say', async () => {
  await writeFile(
    join(folder, 'consumer.ts'),
    `import { Longhaul, type RequestInput } from 'longhaul';
import { outcome, requestLine, type BatchStatus, type Outcome } from 'longhaul/contracts';
import { ERROR_CODES, LonghaulError, NotFoundError, type ErrorCode } from 'longhaul/errors';

const request: RequestInput = { custom_id: 'a', document: 'text', question: 'what?' };
// @ts-expect-error: a typo must not become a default
const typo: RequestInput = { custom_id: 'a', documnet: 'text' };
const code: ErrorCode = 'TOO_LONG';
const text = (o: Outcome): string | undefined => o.answers[0]?.text;
export async function ask(longhaul: Longhaul): Promise<BatchStatus> {
  const { id } = await longhaul.submit([request], { method: 'full' });
  for await (const o of longhaul.outcomes(id)) text(o);
  return longhaul.wait(id);
}
try {
  await Longhaul.open({ redisUrl: 'redis://127.0.0.1:1' });
} catch (error) {
  if (!(error instanceof LonghaulError) || error instanceof NotFoundError) throw error;
  const { max_tokens } = requestLine.parse(request);
  const bad = requestLine.safeParse(typo).success || outcome.safeParse(request).success;
  console.log(JSON.stringify([error.code, max_tokens, bad, ERROR_CODES.includes(code)]));
}
`,
  );
  const options = {
    module: 'NodeNext',
    target: 'ES2023',
    lib: ['ES2023'],
    types: ['node'],
    strict: true,
    skipLibCheck: true,
  };
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  await writeFile(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: ['consumer.ts'] }),
  );
  await run(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', folder]).catch(
    (error: { stdout: string }) => expect.fail(error.stdout),
  );
  const { stdout } = await run(process.execPath, [join(folder, 'consumer.js')], { cwd: folder });
  expect(JSON.parse(stdout)).toEqual(['REDIS_UNREACHABLE', 64, false, true]);
  expect(ERROR_CODES).toContain('REDIS_UNREACHABLE');
});
