/** Tells a schedule's webhook that a run has failed. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunEnd, RunWebhook } from '../../contracts/schedule.js';
import { ConfigError } from '../../platform/errors.js';
import type { Timings } from '../../platform/timings.js';

const ATTEMPTS = 3;

/** @throws ConfigError for anything but an http or https URL. The URL itself may be a secret and is not shown. */
export function checkWebhook(url: string): void {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new ConfigError(
      '--webhook is no http or https URL; give one like https://hooks.example.com/longhaul',
    );
  }
  const { username, password } = new URL(url);
  if (username !== '' || password !== '') {
    throw new ConfigError(
      '--webhook has a user or password in it, which no call would send; put a token into its path',
    );
  }
}

/** A webhook as people may see it: paths and queries of webhooks are often secrets. */
export function shownWebhook(url: string): string {
  return new URL(url).origin;
}

/** Never rejects but for `signal`: three calls at most, and what became of them. Redirects are not followed. */
export async function callWebhook(
  url: string,
  news: { schedule: string; run: string; status: RunEnd['status']; error: RunEnd['error'] },
  { webhook, webhookBackoff }: Pick<Timings, 'webhook' | 'webhookBackoff'>,
  signal: AbortSignal,
): Promise<RunWebhook> {
  let detail = '';
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if (attempt > 1) await sleep(webhookBackoff * 2 ** (attempt - 2), undefined, { signal });
    // Not AbortSignal.timeout with AbortSignal.any: Node.js 20 may collect the timeout as garbage, which then never fires.
    const stop = new AbortController();
    const forward = () => stop.abort(signal.reason);
    signal.addEventListener('abort', forward);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      stop.abort();
    }, webhook);
    try {
      signal.throwIfAborted();
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(news),
        redirect: 'manual',
        signal: stop.signal,
      });
      await response.body?.cancel();
      detail = `answered ${response.status}`;
      if (response.ok) return { delivered: true, attempts: attempt, detail };
    } catch {
      signal.throwIfAborted();
      // Messages of fetch may hold the URL.
      detail = late ? `no answer within ${webhook} ms` : 'could not be reached';
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', forward);
    }
  }
  return { delivered: false, attempts: ATTEMPTS, detail };
}
