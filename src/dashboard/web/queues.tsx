import type { Session } from '../api.js';
import { unlockQueues } from './client.js';
import { confirm } from './confirm.js';
import { when } from './format.js';
import { serverNow } from './live.js';
import { Panel } from './parts.js';

export function Queues({ session, onSession }: { session: Session; onSession: (session: Session) => void }) {
  const until = session.queuesUnlockedUntil;
  const unlocked = until !== null && until > serverNow();
  const unlock = (): void => {
    confirm({
      title: 'Let Bull Board change the queues?',
      text: 'For ten minutes jobs can be removed, retried and promoted by hand. longhaul’s own cancel, retry and redrive keep batches whole; a job changed by hand may fail requests that have no fault. The reconciler puts right what it can.',
      verb: 'Unlock for ten minutes',
      act: async () => {
        onSession(await unlockQueues(true));
        return { message: 'Bull Board may change the queues for ten minutes.' };
      },
    });
  };
  const lock = (): void => {
    unlockQueues(false).then(onSession, () => undefined);
  };
  return (
    <>
      <h1 class="visually-hidden">Queues</h1>
      <Panel title="Queues" id="queues">
        <div class="panel-body prose">
          <p>
            Bull Board shows the jobs behind batches: <b>documents</b> for cohorts, <b>outcomes</b> for the
            aggregator, <b>finalise</b> for batches that end.
          </p>
          <p class="actions">
            <a class="button strong" href="/queues">
              Open Bull Board, read only
            </a>
            {unlocked ? (
              <>
                <a class="button" href="/queues-unlocked">
                  Open it unlocked
                </a>
                <button type="button" onClick={lock}>
                  Lock again
                </button>
              </>
            ) : (
              <button type="button" onClick={unlock}>
                Unlock changes
              </button>
            )}
          </p>
          {unlocked ? <p class="note warn">Unlocked until {when(until, serverNow())}.</p> : null}
        </div>
      </Panel>
    </>
  );
}
