import { randomBytes } from 'node:crypto';

const LIFE_MS = 12 * 3600 * 1000;
const MAX_SESSIONS = 1000;
/** Wrong passwords that are taken from an address in a minute. */
const TRIES = 10;
const TRIES_MS = 60_000;

export interface LoginSession {
  csrf: string;
  expiresAt: number;
  /** Unix milliseconds until which Bull Board may change queues. */
  queuesUnlockedUntil: number;
}

const token = (): string => randomBytes(32).toString('base64url');

/** In memory: after a restart people sign in again. */
export class Sessions {
  private readonly sessions = new Map<string, LoginSession>();
  private readonly tries = new Map<string, { count: number; since: number }>();

  open(): { id: string; session: LoginSession } {
    const id = token();
    const session = { csrf: token(), expiresAt: Date.now() + LIFE_MS, queuesUnlockedUntil: 0 };
    this.sessions.set(id, session);
    // The oldest one makes room.
    for (const old of this.sessions.keys()) {
      if (this.sessions.size <= MAX_SESSIONS) break;
      this.sessions.delete(old);
    }
    return { id, session };
  }

  get(id: string | undefined): LoginSession | undefined {
    const session = id === undefined ? undefined : this.sessions.get(id);
    if (session === undefined || session.expiresAt > Date.now()) return session;
    this.sessions.delete(id ?? '');
    return undefined;
  }

  close(id: string): void {
    this.sessions.delete(id);
  }

  mayTry(address: string): boolean {
    const before = this.tries.get(address);
    return before === undefined || before.count < TRIES || performance.now() - before.since > TRIES_MS;
  }

  tried(address: string): void {
    const now = performance.now();
    for (const [known, { since }] of this.tries) if (now - since > TRIES_MS) this.tries.delete(known);
    const before = this.tries.get(address) ?? { count: 0, since: now };
    this.tries.set(address, { ...before, count: before.count + 1 });
  }

  /** It knew the password after all. */
  forgive(address: string): void {
    this.tries.delete(address);
  }
}
