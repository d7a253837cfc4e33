import type { Timings } from '../platform/timings.js';
import { reduce } from './protocol.js';
import type { Effect, Input, State, Timer } from './protocol-types.js';

type Act<D extends Effect['do']> = (effect: Extract<Effect, { do: D }>) => void;
type Timed = 'timer' | 'clear';

/** What the world does for the protocol. Handlers start things and return; results come back as inputs. */
export type Handlers = { [D in Exclude<Effect['do'], Timed>]: Act<D> };

/** Runs the pure protocol: keeps its state, its timers, and the order of its inputs. */
export class Machine {
  private readonly queue: Input[] = [];
  private readonly timers = new Map<Timer, NodeJS.Timeout>();
  private busy = false;

  constructor(
    private current: State,
    private readonly handlers: Handlers,
    private readonly timings: Timings,
    private readonly onState: (state: State) => void = () => undefined,
  ) {}

  get state(): State {
    return this.current;
  }

  /** An input that a handler dispatches is taken after the effects of the present one. */
  dispatch(input: Input): void {
    this.queue.push(input);
    if (this.busy) return;
    this.busy = true;
    try {
      for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) this.step(next);
    } finally {
      this.busy = false;
    }
  }

  /** Drops every timer; the process is on its way out. */
  close(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  private step(input: Input): void {
    const { state, effects } = reduce(this.current, input);
    const changed = state !== this.current;
    this.current = state;
    if (changed) this.onState(state);
    for (const effect of effects) this.perform(effect);
  }

  private perform(effect: Effect): void {
    if (effect.do === 'timer') {
      this.startTimer(effect.timer, effect.run, effect.ms ?? this.length(effect.timer));
    } else if (effect.do === 'clear') {
      clearTimeout(this.timers.get(effect.timer));
      this.timers.delete(effect.timer);
    } else {
      (this.handlers[effect.do] as (e: Effect) => void)(effect);
    }
  }

  private startTimer(timer: Timer, run: number, ms: number): void {
    clearTimeout(this.timers.get(timer));
    const handle = setTimeout(() => {
      this.timers.delete(timer);
      this.dispatch({ type: 'timeout', timer, run });
    }, ms);
    this.timers.set(timer, handle);
  }

  private length(timer: Timer): number {
    const { join, prepare, runBase, abort, drain } = this.timings;
    // A leaving follower waits for the leader's drain, and for the ranks to get out of the run.
    return { join, prepare, run: runBase, settle: abort, leave: drain + 2 * abort, abort }[timer];
  }
}
