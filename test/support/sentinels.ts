/** A Redis with a replica and three sentinels, as processes, whose replication can be cut. */
import { spawn, type ChildProcess } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findRedisServer } from '../../src/local/redis-server.js';
import { createRedis } from '../../src/platform/redis.js';
import { running, watch, type Service } from './leaks.js';
import { endProcess, freePort, startRedis, tempDir, type RedisService } from './services.js';
import { startTcpProxy } from './tcp-proxy.js';

const NAME = 'longhaul';
const SENTINELS = 3;

export interface SentinelService {
  /** As `redisUrl` has it. */
  url: string;
  master: RedisService;
  replica: RedisService;
  /** Nothing reaches the replica any more, and neither side learns of it. */
  cutReplication(): void;
  stop(): Promise<void>;
}

export async function startSentinels(): Promise<SentinelService> {
  const master = await startRedis();
  const link = await startTcpProxy(master.port);
  const replica = await startRedis({ more: ['--replicaof', `127.0.0.1 ${link.port}`] });
  await untilReplicates(replica);
  const dir = await tempDir('longhaul-sentinels-');
  const ports = await Promise.all(Array.from({ length: SENTINELS }, freePort));
  const command = await findRedisServer();
  const children: ChildProcess[] = ports.map((port) => {
    const file = join(dir, `${port}.conf`);
    const settings = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${dir}`,
      `sentinel monitor ${NAME} 127.0.0.1 ${master.port} 2`,
      `sentinel down-after-milliseconds ${NAME} 1000`,
      // Also how long they let a replica follow another address than the master's: our link.
      `sentinel failover-timeout ${NAME} 60000`,
    ];
    writeFileSync(file, settings.join('\n') + '\n');
    return watch(spawn(command, [file, '--sentinel'], { stdio: 'ignore' }));
  });
  const service: SentinelService & Service = {
    name: 'sentinels',
    url: `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/${NAME}`,
    master,
    replica,
    cutReplication() {
      link.cut('from');
    },
    async stop() {
      running.delete(service);
      await Promise.all(children.map((child) => endProcess(child)));
      await link.close();
      await Promise.all([master.stop(), replica.stop()]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
  running.add(service);
  await Promise.all(ports.map(untilWatches));
  return service;
}

async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; ;) {
    if (await probe().catch(() => false)) return;
    if (Date.now() > end) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function untilReplicates({ url }: RedisService): Promise<void> {
  const redis = createRedis(url, 'command');
  try {
    await until('the replica replicates', async () =>
      (await redis.info('replication')).includes('master_link_status:up'),
    );
  } finally {
    redis.disconnect();
  }
}

/** It knows the replica and the other sentinels. */
async function untilWatches(port: number): Promise<void> {
  const redis = createRedis(`redis://127.0.0.1:${port}`, 'command');
  try {
    await until(`the sentinel on port ${port} knows all`, async () => {
      const info = await redis.info('sentinel');
      return info.includes(`status=ok`) && info.includes(`slaves=1,sentinels=${SENTINELS}`);
    });
  } finally {
    redis.disconnect();
  }
}
