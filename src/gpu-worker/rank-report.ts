import type { RankReport } from '../contracts/cohort.js';
import type { EngineProgress } from './engine-like.js';
import type { State } from './protocol-types.js';

/** What a rank does, in the words of its heartbeat. */
export function describeRank(
  state: State,
  progress: EngineProgress | null,
): Pick<RankReport, 'phase' | 'batch' | 'item' | 'done' | 'total'> {
  const { ticket } = state;
  const work = { batch: ticket?.batch ?? null, item: ticket?.item ?? null };
  if (state.phase === 'running') {
    // GO was given and the engine has not said anything yet.
    const { phase, done, total } = progress ?? { phase: 'prefill', done: 0, total: 0 };
    return { ...work, phase, done, total };
  }
  return { ...work, phase: phaseName(state.phase), done: 0, total: 0 };
}

function phaseName(phase: Exclude<State['phase'], 'running'>): RankReport['phase'] {
  switch (phase) {
    case 'sealed':
      return 'forming';
    case 'gone':
      return 'leaving';
    default:
      return phase;
  }
}
