import type { ChainableCommander } from 'ioredis';

/** The replies of a MULTI. @throws the first command's error: `exec` itself reports it only as a value. */
export async function execAll(chain: ChainableCommander): Promise<unknown[]> {
  const replies = (await chain.exec()) ?? [];
  return replies.map(([error, value]) => {
    if (error !== null) throw error;
    return value;
  });
}
