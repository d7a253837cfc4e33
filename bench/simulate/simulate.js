/**
 * A discrete-event simulation of documents on their way through longhaul: submit, queue, cohorts, aggregators, and what
 * all of them ask of Redis and S3. Pure: no clock, no randomness but the seed's, so the same scenario gives the same
 * result. Seconds are simulated ones.
 *
 *   submit -> Redis (enqueue) -> queue -> cohort (claim, prefill, decode) -> Redis (hand over) -> aggregator -> S3 -> Redis
 *
 * A cohort that dies is lost with its document's work: the document goes back to the queue's head when its lease is
 * over, the cohort forms anew. Leaders claim nothing while as many answers as the bound wait for S3.
 */
import { Events, mulberry32, Station } from './station.js';

/** @param {import('./simulate.js').Scenario} scenario */
export function simulate(scenario) {
  return new Simulation(scenario).run();
}

class Simulation {
  constructor(scenario) {
    this.scenario = scenario;
    this.events = new Events();
    this.random = mulberry32(scenario.seed);
    const { submit, aggregators } = scenario;
    this.submitters = new Station(this.events, submit.processes);
    this.redis = new Station(this.events, 1);
    this.s3 = new Station(this.events, 1);
    this.aggregators = new Station(this.events, aggregators.count);
    this.counts = {
      arrived: 0,
      submitting: 0,
      waiting: 0,
      running: 0,
      returning: 0,
      uncommitted: 0,
      committed: 0,
    };
    /** Documents that arrived, or are to. */
    this.coming = 0;
    this.tokens = 0;
    this.deaths = 0;
    this.wasted = 0;
    this.busy = 0;
    this.waited = 0;
    this.started = 0;
    this.lastCommit = 0;
    /** Two stacks make a queue: documents that come back go to its head. */
    this.queue = [];
    this.head = 0;
    this.returned = [];
    /** Cohorts by life: a life begins with a forming and ends with a death. */
    this.alive = new Map();
    this.lives = 0;
    this.idle = [];
    this.weights = scenario.mix.reduce((sum, { weight }) => sum + weight, 0);
  }

  run() {
    const { cohorts, horizon = Infinity } = this.scenario;
    for (let number = 0; number < cohorts.count; number++) this.form();
    this.arrive();
    const seconds = this.events.run(horizon);
    return this.result(horizon === Infinity ? this.lastCommit : seconds);
  }

  /** The next document comes by itself, or when a submitter is free. */
  arrive() {
    const { documents, arrivals } = this.scenario;
    if (this.coming >= documents) return;
    const number = this.coming++;
    const { perSecond } = arrivals;
    const wait = perSecond === undefined ? 0 : -Math.log(1 - this.random()) / perSecond;
    this.events.after(wait, () => {
      this.counts.arrived += 1;
      this.counts.submitting += 1;
      const item = this.draw(number);
      const { secondsPerDocument, secondsPerToken, redisSeconds, s3Requests } = this.scenario.submit;
      this.submitters.serve(secondsPerDocument + secondsPerToken * item.tokens, () => {
        // A submit of one batch is one after the other: its next document follows.
        if (perSecond === undefined) this.arrive();
        this.askS3(s3Requests, () => this.redis.serve(redisSeconds, () => this.enqueue(item)));
      });
      if (perSecond !== undefined) this.arrive();
      else if (number < this.scenario.submit.processes - 1) this.arrive();
    });
  }

  /** Which kind the document is: in turns by weight where the order is given, else by chance. */
  draw(index) {
    const { mix, order } = this.scenario;
    if (order === 'given') return { ...mix[index % mix.length], queuedAt: 0 };
    let left = this.random() * this.weights;
    const kind = mix.find(({ weight }) => (left -= weight) < 0) ?? mix[mix.length - 1];
    return { ...kind, queuedAt: 0 };
  }

  askS3(requests, done) {
    const { requestsPerSecond, latency } = this.scenario.s3;
    if (requests === 0) return done();
    this.s3.serve(requests / requestsPerSecond, () => this.events.after(latency, done));
  }

  enqueue(item) {
    this.counts.submitting -= 1;
    this.counts.waiting += 1;
    item.queuedAt = this.events.now;
    this.queue.push(item);
    this.match();
  }

  match() {
    while (this.idle.length > 0 && this.counts.waiting > 0) {
      if (this.counts.uncommitted >= this.scenario.uncommittedBound) return;
      this.start(this.idle.shift(), this.take());
    }
  }

  take() {
    const back = this.returned.pop();
    if (back !== undefined) return back;
    const item = this.queue[this.head];
    this.queue[this.head] = undefined;
    this.head += 1;
    if (this.head > 1024 && this.head * 2 > this.queue.length) {
      this.queue = this.queue.slice(this.head);
      this.head = 0;
    }
    return item;
  }

  start(cohort, item) {
    const { claimSeconds } = this.scenario.cohorts;
    this.counts.waiting -= 1;
    this.counts.running += 1;
    if (!item.counted) {
      item.counted = true;
      this.waited += this.events.now - item.queuedAt;
      this.started += 1;
    }
    const { life } = cohort;
    const running = { life, item, begunAt: this.events.now };
    this.alive.set(life, running);
    this.events.after(claimSeconds + item.prefillSeconds + item.decodeSeconds, () => {
      // It died meanwhile.
      if (this.alive.get(life) !== running) return;
      this.busy += this.events.now - running.begunAt;
      const { redisSeconds, s3Requests } = this.scenario.cohorts;
      this.askS3(s3Requests, () => undefined);
      this.counts.running -= 1;
      this.counts.uncommitted += 1;
      this.redis.serve(redisSeconds, () => this.commit(item));
      this.free(running);
    });
  }

  free(cohort) {
    const free = { life: cohort.life, item: undefined };
    this.alive.set(cohort.life, free);
    this.idle.push(free);
    this.match();
  }

  form() {
    const { count, formed, formSeconds, deathsPerHour } = this.scenario.cohorts;
    const life = ++this.lives;
    this.events.after(formed && life <= count ? 0 : formSeconds, () => {
      this.free({ life });
      if (deathsPerHour === 0) return;
      this.events.after((-Math.log(1 - this.random()) * 3600) / deathsPerHour, () => this.die(life));
    });
  }

  die(life) {
    // Nothing is left to do: a death would only keep the simulation going.
    if (this.counts.committed === this.scenario.documents) return;
    const { detectSeconds } = this.scenario.cohorts;
    const cohort = this.alive.get(life);
    this.alive.delete(life);
    this.deaths += 1;
    const { item } = cohort;
    if (item === undefined) this.idle.splice(this.idle.indexOf(cohort), 1);
    else {
      this.wasted += this.events.now - cohort.begunAt;
      this.busy += this.events.now - cohort.begunAt;
      this.counts.running -= 1;
      this.counts.returning += 1;
      this.events.after(detectSeconds, () => {
        this.counts.returning -= 1;
        this.counts.waiting += 1;
        this.returned.push(item);
        this.match();
      });
    }
    this.form();
  }

  commit(item) {
    const { secondsPerItem, redisSeconds, s3Requests } = this.scenario.aggregators;
    this.aggregators.serve(secondsPerItem, () =>
      this.askS3(s3Requests, () =>
        this.redis.serve(redisSeconds, () => {
          this.counts.uncommitted -= 1;
          this.counts.committed += 1;
          this.tokens += item.tokens;
          this.lastCommit = this.events.now;
          this.match();
        }),
      ),
    );
  }

  result(seconds) {
    const { cohorts } = this.scenario;
    let running = 0;
    for (const { item, begunAt } of this.alive.values())
      if (item !== undefined) running += Math.max(0, seconds - begunAt);
    const share = (busy, servers) => (seconds === 0 ? 0 : busy / (servers * seconds));
    return {
      seconds,
      counts: this.counts,
      documentsPerSecond: this.counts.committed / seconds,
      tokensPerSecond: this.tokens / seconds,
      meanWaitSeconds: this.started === 0 ? 0 : this.waited / this.started,
      deaths: this.deaths,
      wastedSeconds: this.wasted,
      utilisation: {
        submit: share(this.submitters.busyUntil(seconds), this.submitters.servers),
        redis: share(this.redis.busyUntil(seconds), 1),
        s3: share(this.s3.busyUntil(seconds), 1),
        cohorts: share(this.busy + running, cohorts.count),
        aggregators: share(this.aggregators.busyUntil(seconds), this.aggregators.servers),
      },
    };
  }
}
