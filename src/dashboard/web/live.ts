/** The values that the server keeps telling; components follow single keys. */
import { useEffect, useState } from 'preact/hooks';
import type { LiveMessage, LiveValues } from '../api.js';
import { checkSession } from './client.js';

export type Connection = 'connecting' | 'live' | 'lost';

type Key = Extract<keyof LiveValues, string>;

const values = new Map<string, unknown>();
const followers = new Map<string, Set<() => void>>();
const everyone = new Set<() => void>();
let source: EventSource | undefined;
let watched = '';
let opened = false;
let connection: Connection = 'connecting';
let offset = 0;

/** The server's clock, Unix milliseconds. */
export const serverNow = (): number => Date.now() + offset;

function tell(keys: Iterable<string>): void {
  const due = new Set<() => void>(everyone);
  for (const key of keys) for (const follower of followers.get(key) ?? []) due.add(follower);
  for (const follower of due) follower();
}

function setConnection(next: Connection): void {
  if (next === connection) return;
  connection = next;
  tell(['connection']);
}

function connect(): void {
  source?.close();
  opened = true;
  const events = new EventSource(`/api/live${watched === '' ? '' : `?watch=${encodeURIComponent(watched)}`}`);
  source = events;
  let first = true;
  events.onmessage = ({ data }: MessageEvent<string>) => {
    const { now, patch } = JSON.parse(data) as LiveMessage;
    offset = now - Date.now();
    // What has gone while nobody listened is in no patch.
    const before = first ? [...values.keys()] : [];
    if (first) values.clear();
    first = false;
    for (const [key, value] of Object.entries(patch)) {
      if (value === null && /^(cohort|batch):/.test(key)) values.delete(key);
      else values.set(key, value);
    }
    setConnection('live');
    tell([...before, ...Object.keys(patch)]);
  };
  events.onerror = () => {
    setConnection('lost');
    // The browser tries again by itself, unless the server refused: then the session may have ended.
    if (events.readyState === EventSource.CLOSED && source === events) {
      setTimeout(() => {
        if (source !== events) return;
        connect();
        void checkSession();
      }, 2000);
    }
  };
}

export function startLive(): void {
  if (!opened) connect();
}

export function stopLive(): void {
  source?.close();
  source = undefined;
  opened = false;
  values.clear();
}

/** Which batches the page shows beside the newest ones. */
export function watchBatches(ids: readonly string[]): void {
  const next = ids.join(',');
  if (next === watched) return;
  watched = next;
  if (opened) connect();
}

function useFollow(followed: Set<() => void>): void {
  const [, redraw] = useState(0);
  useEffect(() => {
    const follower = () => {
      redraw((n) => n + 1);
    };
    followed.add(follower);
    return () => {
      followed.delete(follower);
    };
  }, [followed]);
}

function followersOf(key: string): Set<() => void> {
  const known = followers.get(key) ?? new Set();
  followers.set(key, known);
  return known;
}

export function useLive<K extends Key>(key: K): LiveValues[K] | undefined {
  useFollow(followersOf(key));
  return values.get(key) as LiveValues[K] | undefined;
}

/** All values whose key begins so; redraws at every message. */
export function useLiveAll<V>(prefix: string): [key: string, value: V][] {
  useFollow(everyone);
  return [...values].filter(([key]) => key.startsWith(prefix)) as [string, V][];
}

export function useConnection(): Connection {
  useFollow(followersOf('connection'));
  return connection;
}

/** The server's clock, redrawn every second. */
export function useNow(): number {
  const [, redraw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => {
      redraw((n) => n + 1);
    }, 1000);
    return () => {
      clearInterval(timer);
    };
  }, []);
  return serverNow();
}
