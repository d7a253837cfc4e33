/**
 * Which files give the answers. A batch and a cohort compare these digests, so both compute them
 * here. Hashing a large checkpoint takes minutes; digests of large files are therefore kept under
 * the user's cache directory, keyed by path, size and modification time.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { digest, type ModelDigests } from '../contracts/manifest.js';
import { ConfigError } from '../platform/errors.js';
import { tokenizerDigest } from './tokenizer.js';

/** Smaller files are hashed each time: quicker than looking them up matters. */
const CACHED_FROM_BYTES = 64 * 1024 * 1024;
const DEFAULT_HEADS = 'retaining_heads.safetensors';

export interface DigestOptions {
  signal?: AbortSignal;
  cacheDir?: string;
}

/**
 * Weights are what the engine reads: config.json with model.safetensors, or with the index and its
 * shards when there is one. Heads are `headsFile`, else retaining_heads.safetensors of the directory
 * when it is there, else null.
 * @throws ConfigError naming the file that is missing or malformed.
 */
export async function modelDigests(
  modelDir: string,
  headsFile?: string,
  { signal, cacheDir = join(homedir(), '.cache', 'longhaul', 'digests') }: DigestOptions = {},
): Promise<ModelDigests> {
  const hash = (path: string) => fileDigest(path, cacheDir, signal);
  const lines: string[] = [];
  for (const name of await weightFiles(modelDir)) lines.push(`${name} ${await hash(join(modelDir, name))}\n`);
  const defaultHeads = join(modelDir, DEFAULT_HEADS);
  const heads = headsFile ?? ((await exists(defaultHeads)) ? defaultHeads : undefined);
  return {
    model: createHash('sha256').update(lines.join('')).digest('hex'),
    tokenizer: await tokenizerDigest(modelDir),
    heads: heads === undefined ? null : await hash(heads),
  };
}

const shardIndex = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

async function weightFiles(modelDir: string): Promise<string[]> {
  const index = 'model.safetensors.index.json';
  const path = join(modelDir, index);
  if (!(await exists(path))) return ['config.json', 'model.safetensors'];
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`${path} cannot be read as JSON; fetch it again`, { cause });
  }
  const parsed = shardIndex.safeParse(value);
  if (!parsed.success) throw new ConfigError(`${path} has no weight_map; fetch it again`);
  const shards = [...new Set(Object.values(parsed.data.weight_map))].sort();
  return ['config.json', index, ...shards];
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

const cacheEntry = z.strictObject({ path: z.string(), size: z.string(), mtime: z.string(), sha256: digest });

async function fileDigest(given: string, cacheDir: string, signal?: AbortSignal): Promise<string> {
  const path = resolve(given);
  try {
    const { size, mtimeNs } = await stat(path, { bigint: true });
    if (size < CACHED_FROM_BYTES) return await hashFile(path, signal);
    const identity = { path, size: String(size), mtime: String(mtimeNs) };
    const entry = join(cacheDir, createHash('sha256').update(JSON.stringify(identity)).digest('hex'));
    const known = await readEntry(entry);
    if (known !== undefined) return known;
    const sha256 = await hashFile(path, signal);
    await writeEntry(entry, JSON.stringify({ ...identity, sha256 }));
    return sha256;
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ConfigError(`${path} cannot be read; modelDir and headsFile must name the model's files`, {
      cause,
    });
  }
}

async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  // A stream made with an aborted signal fails before anybody listens.
  signal?.throwIfAborted();
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

async function readEntry(entry: string): Promise<string | undefined> {
  try {
    return cacheEntry.parse(JSON.parse(await readFile(entry, 'utf8'))).sha256;
  } catch {
    return undefined; // absent or damaged: hashed anew
  }
}

/** A home that cannot be written to costs time at the next start, nothing else. */
async function writeEntry(entry: string, text: string): Promise<void> {
  const temporary = `${entry}.${process.pid}.${basename(entry).slice(0, 8)}.tmp`;
  try {
    await mkdir(join(entry, '..'), { recursive: true });
    await writeFile(temporary, text);
    await rename(temporary, entry);
  } catch {
    await rm(temporary, { force: true }).catch(() => undefined);
  }
}
