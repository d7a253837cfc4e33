/**
 * The gateway as people have it: the built command as a process with no more rights than infra/policies gives it, a
 * cohort with the demo model and an aggregator behind it, and OpenAI's own client before it. Needs `make build`.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import OpenAI, { toFile } from 'openai';
import { addKey, type Limits } from '../../src/gateway/api-keys.js';
import type { Settings } from '../../src/platform/config.js';
import { createRedis } from '../../src/platform/redis.js';
import { Bench, until } from '../chaos/cohort-support.js';
import { startCommand, startServer } from '../support/command.js';
import { startRedis, startS3, type RedisService, type S3Service } from '../support/services.js';

const RANKS = 2;
const credentials = { accessKeyId: 'key-of-gateway', secretAccessKey: randomBytes(20).toString('hex') };

/** What the demo model can find, among sentences that say nothing. */
export const KEY = '688435772345';
export const QUESTION = 'Now, give me the exact number of the pass key. The pass key is';
const noise = 'The sky is blue. The tree is green. The flower is red. The sun is yellow. ';
export const TEXT = `${noise.repeat(20)}The pass key is ${KEY}. Remember it. The pass key is ${KEY}. ${noise.repeat(20)}`;

export type Process = Awaited<ReturnType<typeof startServer>>;

export interface Stack {
  redis: RedisService;
  s3: S3Service;
  bench: Bench;
  /** Another gateway. */
  gateway: (settings?: Partial<Settings>) => Promise<Process>;
  close: () => Promise<void>;
}

export async function startStack(): Promise<Stack> {
  const policy = JSON.parse(readFileSync(resolve('infra/policies/s3-gateway.json'), 'utf8')) as unknown;
  const [redis, s3] = await Promise.all([
    startRedis(),
    // The policy names the bucket.
    startS3({ bucket: 'longhaul', limited: [{ ...credentials, policy }] }),
  ]);
  await giveRights(redis);
  const modelDir = resolve('models/demo');
  const bench = new Bench({ redis, s3, modelDir });
  bench.cohort(RANKS, 'main');
  const aggregator = startCommand(['aggregator'], { redisUrl: redis.url, ...s3.settings });
  const processes = [aggregator];
  return {
    redis,
    s3,
    bench,
    gateway: async (settings = {}) => {
      const gateway = await startServer('gateway', {
        ...s3.settings,
        s3AccessKeyId: credentials.accessKeyId,
        s3SecretAccessKey: credentials.secretAccessKey,
        redisUrl: redis.url.replace('//', `//gateway:${credentials.secretAccessKey}@`),
        gatewayPort: 0,
        modelDir,
        ranks: RANKS,
        ...settings,
      });
      processes.push(gateway);
      return gateway;
    },
    async close() {
      await Promise.all(processes.map((each) => each.stop()));
      await bench.close();
      await Promise.all([redis.stop(), s3.stop()]);
    },
  };
}

async function giveRights(redis: RedisService): Promise<void> {
  const administrator = createRedis(redis.url, 'command');
  try {
    const lines = readFileSync(resolve('infra/policies/redis.acl'), 'utf8').split('\n');
    const [, user, ...rules] = lines.find((line) => line.startsWith('user gateway '))?.split(' ') ?? [];
    if (user === undefined) throw new Error('redis.acl has no gateway');
    const own = rules.map((rule) => (rule.startsWith('>') ? `>${credentials.secretAccessKey}` : rule));
    await administrator.call('ACL', 'SETUSER', user, ...own);
  } finally {
    administrator.disconnect();
  }
}

export interface Caller {
  client: OpenAI;
  id: string;
  secret: string;
}

/** OpenAI's client, as it is but for its base URL, with a new key of this owner. */
export async function clientOf(
  { bench }: Stack,
  { url }: Pick<Process, 'url'>,
  owner: string,
  limits: Partial<Limits> = {},
): Promise<Caller> {
  const { id, secret } = await addKey(bench.store, owner, limits);
  const client = new OpenAI({ baseURL: url, apiKey: secret, maxRetries: 0 });
  // A gateway reads its keys again after two seconds.
  await until(
    `the key of ${owner}`,
    10_000,
    async () =>
      (await fetch(`${url}/files?limit=1`, { headers: { authorization: `Bearer ${secret}` } })).status !==
      401,
  );
  return { client, id, secret };
}

export const chatLine = (custom_id: string, content = TEXT, question = QUESTION) => ({
  custom_id,
  method: 'POST',
  url: '/v1/chat/completions',
  body: {
    model: 'demo',
    messages: [
      { role: 'user', content },
      { role: 'user', content: question },
    ],
    max_tokens: 16,
  },
});

export const jsonl = (...lines: object[]): string =>
  lines.map((line) => JSON.stringify(line) + '\n').join('');

export async function upload(client: OpenAI, text: string, name = 'input.jsonl'): Promise<string> {
  const file = await toFile(Buffer.from(text), name);
  return (await client.files.create({ file, purpose: 'batch' })).id;
}

export const asked = (input_file_id: string) =>
  ({ input_file_id, endpoint: '/v1/chat/completions', completion_window: '24h' }) as const;

export async function ended(client: OpenAI, id: string, ms = 40_000): Promise<OpenAI.Batch> {
  return until(`the end of ${id}`, ms, async () => {
    const batch = await client.batches.retrieve(id);
    return ['failed', 'completed', 'expired', 'cancelled'].includes(batch.status) && batch;
  });
}

export const contentOf = async (client: OpenAI, id: string | undefined): Promise<string> =>
  (await client.files.content(id ?? 'none')).text();
