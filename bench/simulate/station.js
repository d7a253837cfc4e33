/** What the simulation is made of: events in the order of time, and stations where work waits its turn. */

/** Random numbers from 0 to 1, the same for the same seed. */
export function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Events by time; those of one time in the order in which they were made. A binary heap. */
export class Events {
  now = 0;
  #heap = [];
  #made = 0;

  after(seconds, happen) {
    if (!(seconds >= 0)) throw new RangeError(`an event in ${seconds} seconds; give 0 or more`);
    const event = { at: this.now + seconds, order: this.#made++, happen };
    const heap = this.#heap;
    let place = heap.push(event) - 1;
    while (place > 0) {
      const above = (place - 1) >> 1;
      if (!before(event, heap[above])) break;
      heap[place] = heap[above];
      place = above;
    }
    heap[place] = event;
  }

  /** Until nothing is left to happen, or `horizon`; returns the time. */
  run(horizon) {
    while (this.#heap.length > 0 && this.#heap[0].at <= horizon) {
      const { at, happen } = this.#next();
      this.now = at;
      happen();
    }
    if (horizon !== Infinity) this.now = horizon;
    return this.now;
  }

  #next() {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && before(heap[below + 1], heap[below])) below += 1;
      if (!before(heap[below], last)) break;
      heap[place] = heap[below];
      place = below;
    }
    heap[place] = last;
    return first;
  }
}

const before = (a, b) => a.at < b.at || (a.at === b.at && a.order < b.order);

/** Some servers and one line before them: first come, first served. */
export class Station {
  #free;
  #line = [];
  #head = 0;
  #busy = 0;
  /** When each service under way ends. */
  #ends = new Set();

  constructor(events, servers) {
    this.events = events;
    this.servers = servers;
    this.#free = servers;
  }

  serve(seconds, done) {
    if (this.#free === 0) {
      this.#line.push({ seconds, done });
      return;
    }
    this.#free -= 1;
    this.#begin(seconds, done);
  }

  /** Seconds of service given until `time`, of all servers. */
  busyUntil(time) {
    let ahead = 0;
    for (const { at } of this.#ends) ahead += Math.max(0, at - time);
    return this.#busy - ahead;
  }

  #begin(seconds, done) {
    this.#busy += seconds;
    const service = { at: this.events.now + seconds };
    this.#ends.add(service);
    this.events.after(seconds, () => {
      this.#ends.delete(service);
      const next = this.#line[this.#head];
      if (next === undefined) this.#free += 1;
      else {
        this.#line[this.#head++] = undefined;
        if (this.#head > 1024 && this.#head * 2 > this.#line.length) {
          this.#line = this.#line.slice(this.#head);
          this.#head = 0;
        }
        this.#begin(next.seconds, next.done);
      }
      done();
    });
  }
}
