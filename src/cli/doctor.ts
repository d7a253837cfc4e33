import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Command } from 'commander';
import type { Capabilities, CudaOptions } from '../gpu-worker/engine/engine.js';
import type { Config } from '../platform/config.js';
import { describeError } from '../platform/errors.js';
import { ObjectStore } from '../platform/object-store.js';
import { checkRedis, createRedis } from '../platform/redis.js';
import { configOf, printJson, printLine } from './context.js';

interface Finding {
  check: string;
  ok: boolean;
  /** What was found, or what is wrong. */
  detail: string;
  /** What to do; empty when all is well. */
  remedy: string;
}

const DEADLINE_MS = 15_000;

/** `longhaul doctor` */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check everything that longhaul needs on this machine and around it')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExit codes: 0 all is well, 1 a problem was found')
    .action(async (options: { json?: boolean }, command: Command) => {
      const config = configOf(command);
      const findings = await Promise.all([
        check('node', 'install Node.js 20.19 or newer', checkNode),
        check('engine', 'build it with: longhaul engine build', checkEngine),
        check('gpu', 'install what is missing, or use --backend cpu', () => checkGpu(config)),
        check('redis', 'start it, or correct --redis-url', () => checkRedisServer(config)),
        check('s3', 'start it, or correct --s3-endpoint, --s3-bucket and the credentials', () =>
          checkStore(config),
        ),
        check('model', 'correct modelDir (LONGHAUL_MODEL_DIR)', () => checkModel(config)),
      ]);
      if (options.json === true) printJson(findings);
      else findings.forEach(printFinding);
      if (findings.some(({ ok }) => !ok)) process.exitCode = 1;
    });
}

function printFinding({ check, ok, detail, remedy }: Finding): void {
  printLine(`${ok ? 'ok     ' : 'PROBLEM'} ${check.padEnd(7)} ${detail}`);
  if (!ok) printLine(`                ${remedy}`);
}

/** Runs one check under a deadline; what it throws is the problem. */
async function check(name: string, remedy: string, run: () => string | Promise<string>): Promise<Finding> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return {
      check: name,
      ok: true,
      detail: await Promise.race([Promise.resolve().then(run), late]),
      remedy: '',
    };
  } catch (error) {
    return { check: name, ok: false, detail: describeError(error).message, remedy };
  } finally {
    clearTimeout(timer);
  }
}

function checkNode(): string {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) throw new Error(`this is Node.js ${process.versions.node}`);
  return `Node.js ${process.versions.node}`;
}

async function checkEngine(): Promise<string> {
  const { backends, isa, threads, version } = await capabilitiesOf({});
  return `engine ${version}: ${backends.join(', ')} (${isa}, ${threads} threads)`;
}

/** A machine without a GPU is no problem unless the configuration asks for one. */
async function checkGpu(config: Config): Promise<string> {
  const { backend, comm, gpu, cudaLibrary, cublasLt, nccl: path } = config;
  const { cuda, nccl } = await capabilitiesOf({ gpu, cudaLibrary, cublasLt, nccl: path });
  if (comm === 'nccl' && cuda.available && !nccl.available) throw new Error(nccl.missing);
  if (cuda.available)
    return `${cuda.description}, cuBLASLt from ${cuda.cublasLt}, ${nccl.available ? `NCCL from ${nccl.source}` : `without NCCL: ${nccl.missing}`}`;
  const missing = `the CUDA backend does not work here; missing: ${cuda.missing.join('; ')}`;
  if (backend === 'cuda' || comm === 'nccl') throw new Error(missing);
  return missing;
}

/** In a process of its own: a broken addon may end the process that loads it. */
async function capabilitiesOf(options: CudaOptions): Promise<Capabilities> {
  const engine = new URL('../gpu-worker/engine/engine.js', import.meta.url).href;
  const argument = JSON.stringify(options);
  const script = `import(${JSON.stringify(engine)}).then((e) => console.log(JSON.stringify(e.capabilities(${argument}))))`;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: DEADLINE_MS - 1000,
    });
    return JSON.parse(stdout) as Capabilities;
  } catch (error) {
    const stderr =
      typeof error === 'object' && error !== null && 'stderr' in error ? String(error.stderr) : '';
    const reason = /^\w*Error.*$/m.exec(stderr)?.[0] ?? describeError(error).message;
    throw new Error(`the native engine cannot be loaded: ${reason}`, { cause: error });
  }
}

async function checkRedisServer(config: Config): Promise<string> {
  const redis = createRedis(config.redisUrl, 'command', { maxRetriesPerRequest: 1 });
  try {
    const { version, aof } = await checkRedis(redis, config.redisUrl);
    if (!aof) throw new Error(`Redis ${version} answers but keeps no append-only file; set appendonly yes`);
    return `Redis ${version}, noeviction, append-only file`;
  } finally {
    redis.disconnect();
  }
}

async function checkStore(config: Config): Promise<string> {
  const store = new ObjectStore(config);
  try {
    await store.probe(AbortSignal.timeout(DEADLINE_MS - 1000));
    return `${store.url('')} with conditional writes`;
  } finally {
    store.close();
  }
}

async function checkModel(config: Config): Promise<string> {
  for (const name of ['config.json', 'tokenizer.json'])
    await access(join(config.modelDir, name), constants.R_OK);
  if (config.headsFile !== undefined) await access(config.headsFile, constants.R_OK);
  return config.modelDir;
}
