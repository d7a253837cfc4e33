/** Asks before anything is changed, does it, and says what came of it. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Done } from '../api.js';
import type { CallError } from './client.js';
import { batchPath, Link } from './router.js';
import { Problem } from './parts.js';

export interface Question {
  title: string;
  text: string;
  /** On the button that does it. */
  verb: string;
  act: () => Promise<Done>;
  after?: () => void;
}

let ask: (question: Question) => void = () => undefined;

/** Opens the dialog; the page has one. */
export const confirm = (question: Question): void => {
  ask(question);
};

export function ConfirmDialog() {
  const [question, setQuestion] = useState<Question>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<CallError>();
  const [done, setDone] = useState<Done>();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    ask = (next) => {
      setError(undefined);
      setDone(undefined);
      setQuestion(next);
      dialog.current?.showModal();
    };
  }, []);
  const close = (): void => {
    dialog.current?.close();
  };
  const act = (): void => {
    if (question === undefined) return;
    setBusy(true);
    question.act().then(
      (result) => {
        setBusy(false);
        setDone(result);
        close();
        question.after?.();
      },
      (failure: unknown) => {
        setBusy(false);
        setError(failure as CallError);
      },
    );
  };
  return (
    <>
      <dialog ref={dialog} aria-labelledby="confirm-title" aria-describedby="confirm-text">
        <h2 id="confirm-title">{question?.title}</h2>
        <p id="confirm-text">{question?.text}</p>
        {error === undefined ? null : <Problem error={error} />}
        <p class="dialog-buttons">
          <button type="button" onClick={close}>
            Not now
          </button>
          <button type="button" class="strong" disabled={busy} onClick={act}>
            {question?.verb}
          </button>
        </p>
      </dialog>
      <div class="toast" role="status">
        {done === undefined ? null : (
          <p class="note good">
            {done.message} {done.batch === undefined ? null : <Link to={batchPath(done.batch)}>Open it</Link>}{' '}
            <button
              type="button"
              class="small"
              onClick={() => {
                setDone(undefined);
              }}
            >
              Dismiss
            </button>
          </p>
        )}
      </div>
    </>
  );
}
