import { useState } from 'preact/hooks';
import type { Session } from '../api.js';
import { signIn, type CallError } from './client.js';
import { Problem } from './parts.js';
import { ThemeButton } from './theme.js';

export function Login({ onSession }: { onSession: (session: Session) => void }) {
  const [error, setError] = useState<CallError>();
  const [busy, setBusy] = useState(false);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const password = form.get('password');
    setBusy(true);
    signIn(typeof password === 'string' ? password : '').then(onSession, (failure: unknown) => {
      setBusy(false);
      setError(failure as CallError);
    });
  };
  return (
    <main class="alone">
      <form class="login panel" onSubmit={submit}>
        <h1 class="mark">longhaul</h1>
        <label for="password">Password</label>
        <input
          id="password"
          name="password"
          type="password"
          autocomplete="current-password"
          required
          autofocus
        />
        {error === undefined ? null : <Problem error={error} />}
        <button type="submit" class="strong" disabled={busy}>
          Sign in
        </button>
        <ThemeButton />
      </form>
    </main>
  );
}
