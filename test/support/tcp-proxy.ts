/** A TCP proxy that can be cut, wholly or in one direction, as a network can. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface TcpProxy {
  port: number;
  /**
   * From now on nothing passes: `both` ends all connections and refuses new ones; `to` and `from` swallow what goes to or
   * comes from the server, and no side learns of it.
   */
  cut(direction: 'both' | 'to' | 'from'): void;
  /** All passes again; connections that swallowed something are ended. */
  mend(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(port: number): Promise<TcpProxy> {
  let cut: 'both' | 'to' | 'from' | null = null;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    if (cut === 'both') {
      client.destroy();
      return;
    }
    const upstream = connect(port, '127.0.0.1');
    for (const [one, other, direction] of [
      [client, upstream, 'to'],
      [upstream, client, 'from'],
    ] as const) {
      sockets.add(one);
      one.on('data', (data) => {
        if (cut !== direction) other.write(data);
      });
      one.on('error', () => undefined);
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  const endAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    cut(direction) {
      cut = direction;
      if (direction === 'both') endAll();
    },
    mend() {
      cut = null;
      endAll();
    },
    async close() {
      endAll();
      server.close();
      await once(server, 'close');
    },
  };
}
