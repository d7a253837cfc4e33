/**
 * The life of a run, pure. Its state is what S3 holds of it, so that whoever goes on, after whatever death, sees the same:
 *
 *   started    run.json                    next: plan, unless an earlier run of the schedule is open: wait
 *   planned    plan.json                   next: submit; where it takes nothing: end, succeeded
 *   submitted  batch.json                  next: wait for the batch, and the one over parts' answers, then: digest
 *   ended      end.json: succeeded|failed  next: nothing; of a failed one with a webhook: notify
 *   notified   webhook.json                next: nothing
 *
 * A step that fails for good ends the run as failed; one that may succeed later is tried again and changes nothing.
 * Every object is written once (If-None-Match), and the batch's id follows from schedule and run: two schedulers
 * that do the same step do it once.
 */
import type { RunBatch, RunEnd, RunPlan, RunWebhook, SourceDocument } from '../../contracts/schedule.js';

export interface RunFacts {
  /** An earlier run of the same schedule has not ended. */
  earlierOpen: boolean;
  plan: RunPlan | undefined;
  batch: RunBatch | undefined;
  /** And the second one, where it has parts. */
  batchEnded: boolean;
  end: RunEnd | undefined;
  webhook: RunWebhook | undefined;
  hasWebhook: boolean;
}

export type RunStep = 'plan' | 'submit' | 'wait' | 'digest' | 'notify' | 'done';

/** What is to be done next. */
export function nextStep(facts: RunFacts): RunStep {
  const { end, plan, batch } = facts;
  if (end !== undefined) {
    return end.status === 'failed' && facts.hasWebhook && facts.webhook === undefined ? 'notify' : 'done';
  }
  if (facts.earlierOpen) return 'wait';
  if (plan === undefined) return 'plan';
  if (plan.chosen.length === 0) return 'digest';
  if (batch === undefined) return 'submit';
  return facts.batchEnded ? 'digest' : 'wait';
}

/** What the last successful run saw and answered. */
export interface Seen {
  found: readonly SourceDocument[];
  unanswered: readonly string[];
}

/** The places in `found` that are new or changed since `seen`, or were left without an answer then. */
export function choose(found: readonly SourceDocument[], seen: Seen | undefined): number[] {
  const again = new Set(seen?.unanswered);
  const before = new Map(seen?.found.filter(({ url }) => !again.has(url)).map((d) => [d.url, d]));
  return found.flatMap((document, place) => {
    const old = before.get(document.url);
    const same =
      old !== undefined &&
      old.etag === document.etag &&
      old.bytes === document.bytes &&
      old.modified_at === document.modified_at;
    return same ? [] : [place];
  });
}
