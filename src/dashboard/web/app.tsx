import { useEffect, useState } from 'preact/hooks';
import type { Session } from '../api.js';
import { Batch } from './batch.js';
import { Batches } from './batches.js';
import { readSession, signOut, whenSignedOut, type CallError } from './client.js';
import { CohortsPanel } from './cohorts.js';
import { ConfirmDialog } from './confirm.js';
import { Dead } from './dead.js';
import { DocumentPage } from './document.js';
import { startLive, stopLive, useConnection, useLive } from './live.js';
import { Login } from './login.js';
import { Overview } from './overview.js';
import { Problem } from './parts.js';
import { Queues } from './queues.js';
import { Link, useLocation } from './router.js';
import { ThemeButton } from './theme.js';

const pages = [
  { to: '/', name: 'Overview' },
  { to: '/batches', name: 'Batches' },
  { to: '/cohorts', name: 'Cohorts' },
  { to: '/dead', name: 'Dead items' },
  { to: '/board', name: 'Queues' },
];

function Page({
  path,
  session,
  onSession,
}: {
  path: string;
  session: Session;
  onSession: (session: Session) => void;
}) {
  const [, section, id, documents, item] = path.split('/').map(decodeURIComponent);
  if (section === '') return <Overview />;
  if (section === 'batches' && id === undefined) return <Batches />;
  if (section === 'batches' && id !== undefined && documents === 'documents')
    return <DocumentPage key={path} id={id} item={Number(item)} />;
  if (section === 'batches' && id !== undefined) return <Batch key={id} id={id} />;
  if (section === 'cohorts')
    return (
      <>
        <h1 class="visually-hidden">Cohorts</h1>
        <CohortsPanel />
      </>
    );
  if (section === 'dead') return <Dead />;
  if (section === 'board') return <Queues session={session} onSession={onSession} />;
  return <Problem error={{ message: `there is no page ${path}` }} />;
}

function Connection() {
  const connection = useConnection();
  const problem = useLive('problem') ?? null;
  const said = problem !== null ? 'trouble' : connection;
  return (
    <span
      class={`connection ${said}`}
      role="status"
      title={problem ?? `connection to the dashboard: ${connection}`}
    >
      {said}
    </span>
  );
}

function Trouble() {
  const problem = useLive('problem') ?? null;
  const connection = useConnection();
  if (connection === 'lost')
    return (
      <Problem
        error={{ message: 'The dashboard does not answer. What you see may be old; it is tried again.' }}
      />
    );
  return problem === null ? null : <Problem error={{ message: `What you see may be old: ${problem}` }} />;
}

export function App() {
  const [session, setSession] = useState<Session>();
  const [error, setError] = useState<CallError>();
  const { path } = useLocation();
  useEffect(() => {
    whenSignedOut(() => {
      setSession((before) => before && { ...before, signedIn: false });
    });
    readSession().then(setSession, setError);
  }, []);
  const signedIn = session?.signedIn === true;
  useEffect(() => {
    if (signedIn) startLive();
    else stopLive();
  }, [signedIn]);
  useEffect(() => {
    const page = pages.find(({ to }) => (to === '/' ? path === '/' : path.startsWith(to)));
    document.title = `${page?.name ?? 'longhaul'} · longhaul`;
  }, [path]);

  if (session === undefined)
    return <main class="alone">{error === undefined ? null : <Problem error={error} />}</main>;
  if (!session.signedIn) return <Login onSession={setSession} />;
  const leave = (): void => {
    signOut().then(setSession, setError);
  };
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <Link to="/" class="mark">
          longhaul
        </Link>
        <nav aria-label="pages">
          {pages.map(({ to, name }) => (
            <Link key={to} to={to} current={to === '/' ? path === '/' : path.startsWith(to)}>
              {name}
            </Link>
          ))}
        </nav>
        <div class="top-right">
          <Connection />
          <ThemeButton />
          {session.password ? (
            <button type="button" class="small" onClick={leave}>
              Sign out
            </button>
          ) : null}
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <Trouble />
        <Page path={path} session={session} onSession={setSession} />
      </main>
      <footer class="bottom">longhaul {session.version}</footer>
      <ConfirmDialog />
    </>
  );
}
