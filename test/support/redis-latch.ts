import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/**
 * A way to Redis that closes by itself: it lets `transactions` EXECs through and holds back the next one,
 * with all that follows. So a process can be stopped between two of its writes.
 */
export async function startRedisLatch(
  target: number,
  transactions: number,
): Promise<{ url: string; closed: Promise<void>; stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  let passed = 0;
  let onClosed = () => undefined as void;
  const closed = new Promise<void>((resolve) => (onClosed = resolve));
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        client.destroy();
        upstream.destroy();
      });
    }
    upstream.pipe(client);
    // The command as ioredis writes it; it may be cut in two.
    const exec = '\r\nexec\r\n';
    let tail = '';
    let open = true;
    client.on('data', (bytes: Buffer) => {
      if (!open) return;
      const text = tail + bytes.toString('latin1');
      let at = text.indexOf(exec);
      while (at >= 0 && passed < transactions) {
        passed += 1;
        at = text.indexOf(exec, at + exec.length);
      }
      if (at >= 0) {
        open = false;
        onClosed();
        return;
      }
      tail = text.slice(-(exec.length - 1));
      upstream.write(bytes);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `redis://127.0.0.1:${port}`,
    closed,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
