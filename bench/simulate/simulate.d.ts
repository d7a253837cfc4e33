/** What kind of document: seconds are those of one cohort for the whole of it. */
export interface Kind {
  tokens: number;
  weight: number;
  prefillSeconds: number;
  decodeSeconds: number;
}

export interface Scenario {
  seed: number;
  /** How many there are. */
  documents: number;
  mix: Kind[];
  /** `given`: kinds in turns. Else by chance, by weight. */
  order?: 'given' | 'chance';
  /** Documents of their own accord, at random; else as fast as they are submitted. */
  arrivals: { perSecond?: number };
  submit: {
    processes: number;
    secondsPerDocument: number;
    secondsPerToken: number;
    redisSeconds: number;
    s3Requests: number;
  };
  cohorts: {
    count: number;
    /** Of a document beside its prefill and decode. */
    claimSeconds: number;
    formSeconds: number;
    /** They are formed when it begins. */
    formed?: boolean;
    /** Of each cohort. */
    deathsPerHour: number;
    /** From a death to its document's return to the queue. */
    detectSeconds: number;
    redisSeconds: number;
    s3Requests: number;
  };
  aggregators: { count: number; secondsPerItem: number; redisSeconds: number; s3Requests: number };
  s3: { requestsPerSecond: number; latency: number };
  uncommittedBound: number;
  /** Simulated seconds; without it, until all is committed. */
  horizon?: number;
}

export type Part = 'submit' | 'redis' | 's3' | 'cohorts' | 'aggregators';

export interface Result {
  /** To the last commit, or the horizon. */
  seconds: number;
  counts: {
    arrived: number;
    submitting: number;
    waiting: number;
    running: number;
    returning: number;
    uncommitted: number;
    committed: number;
  };
  documentsPerSecond: number;
  tokensPerSecond: number;
  /** From queued to the first start. */
  meanWaitSeconds: number;
  deaths: number;
  /** Of cohorts, for documents that were begun again. */
  wastedSeconds: number;
  /** Share of the time that each part worked, of all its servers. */
  utilisation: Record<Part, number>;
}

export function simulate(scenario: Scenario): Result;
