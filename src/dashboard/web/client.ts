/** Calls of the server. */
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { Done, Session } from '../api.js';

let csrf: string | null = null;
let onSignedOut = (): void => undefined;

export class CallError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Called when the server says that the session has ended. */
export function whenSignedOut(call: () => void): void {
  onSignedOut = call;
}

async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new CallError(0, 'UNREACHABLE', 'the dashboard does not answer; is it still running?');
  }
  const body = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  if (response.ok) return body as T;
  if (response.status === 401 && body.code === 'SIGN_IN') onSignedOut();
  throw new CallError(
    response.status,
    body.code ?? 'HTTP',
    body.message ?? `the server answered ${response.status}`,
  );
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> =>
  call<T>(path, { signal: signal ?? null });

export const post = <T = Done>(path: string, body: unknown = {}): Promise<T> =>
  call<T>(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(csrf === null ? {} : { 'x-csrf-token': csrf }) },
    body: JSON.stringify(body),
  });

function remember(session: Session): Session {
  ({ csrf } = session);
  return session;
}

export const readSession = async (): Promise<Session> => remember(await get<Session>('/api/session'));
/** After a stream was refused: whether that was because the session has ended. */
export async function checkSession(): Promise<void> {
  const session = await readSession().catch(() => undefined);
  if (session?.signedIn === false) onSignedOut();
}

export const signIn = async (password: string): Promise<Session> =>
  remember(await post<Session>('/api/login', { password }));
export const signOut = async (): Promise<Session> => remember(await post<Session>('/api/logout'));
export const unlockQueues = async (unlocked: boolean): Promise<Session> =>
  remember(await post<Session>('/api/queues', { unlocked }));

export interface Loaded<T> {
  value: T | undefined;
  error: CallError | undefined;
  reload: () => void;
}

/** What a path gives, asked for again every `everyMs` while the page is seen; the old value stays until then. */
export function useGet<T>(path: string, everyMs?: number): Loaded<T> {
  const [state, setState] = useState<{ path: string; value?: T; error?: CallError }>({ path });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => {
    setTurn((n) => n + 1);
  }, []);
  useEffect(() => {
    const ended = new AbortController();
    get<T>(path, ended.signal).then(
      (value) => {
        if (!ended.signal.aborted) setState({ path, value });
      },
      (error: unknown) => {
        if (!ended.signal.aborted)
          setState((before) => ({
            ...(before.path === path ? before : { path }),
            error: error as CallError,
          }));
      },
    );
    return () => {
      ended.abort();
    };
  }, [path, turn]);
  useEffect(() => {
    if (everyMs === undefined) return;
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, everyMs);
    return () => {
      clearInterval(timer);
    };
  }, [everyMs, reload]);
  const { value, error } = state.path === path ? state : { value: undefined, error: undefined };
  return { value, error, reload };
}
