import type { Faults } from './faults.js';
import type { Incoming } from './payload.js';
import type { Store } from './store.js';

/** One request that has been authenticated and parsed, as the operations see it. */
export interface Exchange extends Incoming {
  store: Store;
  faults: Faults;
  method: string;
  bucket: string;
  key: string;
  query: Map<string, string>;
}

export interface ReplyStream {
  length: number;
  chunks: AsyncIterable<Buffer>;
  /** Called once, however the reply ends. */
  close: () => Promise<void>;
}

export interface Reply {
  status: number;
  headers?: Record<string, string>;
  body?: string | ReplyStream;
}

export type Operation = (exchange: Exchange) => Promise<Reply>;

export const xmlReply = (body: string, headers: Record<string, string> = {}): Reply => ({
  status: 200,
  headers: { 'content-type': 'application/xml', ...headers },
  body,
});
