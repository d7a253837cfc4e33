/** A Redis Cluster of three real servers on free ports of the loopback interface, which takes TLS and plain connections. */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { findRedisServer } from '../../src/local/redis-server.js';
import { freePort, startRedis, type RedisService } from './services.js';

export interface RedisCluster {
  nodes: RedisService[];
  /** `redis+cluster://127.0.0.1:...` */
  url: string;
  /** Where the nodes take TLS alone. */
  tlsPorts: number[];
  /** Of the authority to trust. */
  certificate: string;
  stop(): Promise<void>;
}

/** Makes a certificate of its own in `folder`. */
export async function startRedisCluster(folder: string): Promise<RedisCluster> {
  const certificate = makeCertificate(folder);
  const nodes: RedisService[] = [];
  const tlsPorts: number[] = [];
  const stop = async () => {
    await Promise.all(nodes.splice(0).map((node) => node.stop()));
  };
  try {
    for (let node = 0; node < 3; node++) {
      const tlsPort = await portWithBus();
      tlsPorts.push(tlsPort);
      const settings = {
        'cluster-enabled': 'yes',
        'tls-port': String(tlsPort),
        'tls-cluster': 'yes',
        'tls-cert-file': certificate.path,
        'tls-key-file': certificate.key,
        'tls-ca-cert-file': certificate.path,
        'tls-auth-clients': 'no',
      };
      nodes.push(
        await startRedis({ more: Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]) }),
      );
    }
    const tls = ['--tls', '--cacert', certificate.path];
    const addresses = tlsPorts.map((port) => `127.0.0.1:${port}`);
    await redisCli(...tls, '--cluster', 'create', ...addresses, '--cluster-yes');
    // It returns when one node knows that all is well; clients may ask the others.
    for (const { port } of nodes) {
      for (const end = Date.now() + 10_000; ; await sleep(20)) {
        if ((await redisCli('-p', String(port), 'cluster', 'info')).includes('cluster_state:ok')) break;
        if (Date.now() > end) throw new Error(`node ${port} did not join the cluster`);
      }
    }
    return {
      nodes,
      url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
      tlsPorts,
      certificate: certificate.path,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function makeCertificate(folder: string): { path: string; key: string } {
  const [path, key] = [join(folder, 'cluster.pem'), join(folder, 'cluster.key')];
  const subject = ['-subj', '/CN=longhaul-test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const files = ['-nodes', '-keyout', key, '-out', path, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...files, ...subject], { stdio: 'pipe' });
  return { path, key };
}

/** Nodes speak to each other 10,000 ports higher. */
async function portWithBus(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (port + 10_000 < 65_536) return port;
  }
}

async function redisCli(...args: string[]): Promise<string> {
  const command = (await findRedisServer()).replace(/redis-server$/, 'redis-cli');
  const { stdout } = await promisify(execFile)(command, args, { timeout: 30_000 });
  return stdout;
}
