/** The way in which a document is best run, out of those that a policy allows; pure. */
import { predictSeconds, type Speeds, type Way } from './cost.js';
import { defaultSizes, type Fractions } from './sizes.js';
import type { ModelShape } from './work.js';

export const POLICIES = ['exact', 'balanced', 'fast'] as const;
/**
 * How much of the answers' quality may be given for speed. `exact`: nothing. `balanced`: apb at the model's own l_a
 * and l_p, which are those of the paper. `fast`: apb at half of them.
 */
export type Policy = (typeof POLICIES)[number];

/** Of the model's own l_a and l_p. */
const SHARE: Readonly<Record<Policy, number>> = { exact: 0, balanced: 1, fast: 0.5 };
/** The paper has neither l_a nor l_p above it, however long the document. */
const LARGEST = 8192;
/** An approximation must be this much faster than exact ways, which answer as the model does. */
const APPROXIMATION_GAIN = 0.02;
/**
 * Balanced blocks must be this much faster than even ones. Their cut rests on rates that a cohort measures on long
 * chunks as it starts, and ranks of short blocks, whose time is launches and waits, gain less than is predicted.
 */
const BALANCED_GAIN = 0.06;

export interface PlanFacts {
  shape: ModelShape;
  speeds: Speeds;
  /** How many ranks can compute at the same time. */
  places: number;
  /** The model's defaults. */
  fractions: Fractions;
}

export interface PlanRequest {
  tokens: number;
  /** Of the longest query, which the anchor holds. */
  longestQuery: number;
  /** Numbers of ranks to choose from. */
  ranks: readonly number[];
  policy: Policy;
}

export interface Candidate extends Way {
  exact: boolean;
  /** Predicted, of the prefill. */
  seconds: number;
}

export interface Plan {
  chosen: Candidate;
  /** The fastest first. */
  candidates: Candidate[];
  why: string;
}

export function choosePlan(facts: PlanFacts, request: PlanRequest): Plan {
  const candidates = request.ranks
    .flatMap((ranks) => waysOf(facts, request, ranks))
    .map((way): Candidate => {
      const exact = way.ranks === 1 || (way.method !== 'apb' && way.method !== 'star');
      return { ...way, exact, seconds: predictSeconds(facts, way, request.tokens) };
    })
    .sort((a, b) => a.seconds - b.seconds);
  const exact = best(candidates.filter((each) => each.exact)) as Candidate; // full is always there
  const other = best(candidates.filter((each) => !each.exact));
  const chosen =
    other !== undefined && other.seconds * (1 + APPROXIMATION_GAIN) < exact.seconds ? other : exact;
  const why = explain(request, chosen, exact, other);
  const passed = candidates.find((each) => each.exact === chosen.exact) as Candidate;
  return { chosen, candidates, why: passed === chosen ? why : `${why}; ${passedOver(passed, chosen)}` };
}

/** Balanced blocks only where they are worth it. */
function best(candidates: readonly Candidate[]): Candidate | undefined {
  const counted = ({ blocks, seconds }: Candidate) =>
    seconds * (blocks === 'balanced' ? 1 + BALANCED_GAIN : 1);
  return candidates.toSorted((a, b) => counted(a) - counted(b))[0];
}

/** What differs in work, or in what is exchanged. A contiguous ring has zigzag's work, less evenly. */
function waysOf({ shape, fractions }: PlanFacts, request: PlanRequest, ranks: number): Way[] {
  const { tokens, longestQuery, policy } = request;
  const plain = { ranks, anchor: null, passing: 0, ring_layout: null };
  const cut = (way: Omit<Way, 'blocks'>): Way[] => [
    { ...way, blocks: 'even' },
    { ...way, blocks: 'balanced' },
  ];
  if (ranks === 1) return [{ ...plain, method: 'full', blocks: 'even' }];
  const exact: Way[] = [
    ...cut({ ...plain, method: 'full' }),
    { ...plain, method: 'ring', ring_layout: 'zigzag', blocks: 'even' },
  ];
  if (shape.queryHeads % ranks === 0) exact.push({ ...plain, method: 'ulysses', blocks: 'even' });
  if (policy === 'exact') return exact;
  return [
    ...exact,
    { ...plain, method: 'star', blocks: 'even' },
    ...cut({ ...plain, method: 'apb', ...sizesOf(tokens / ranks, fractions, longestQuery, SHARE[policy]) }),
  ];
}

function sizesOf(block: number, fractions: Fractions, longestQuery: number, share: number) {
  const largest = (fraction: number) => Math.min(fraction * share, LARGEST / block);
  return defaultSizes(
    block,
    {
      anchor_per_block: largest(fractions.anchor_per_block),
      passing_per_block: largest(fractions.passing_per_block),
    },
    longestQuery,
  );
}

/** "apb on 4 ranks, balanced blocks, l_a 512, l_p 256" */
export function describeWay({ method, ranks, blocks, ring_layout, anchor, passing }: Way): string {
  return [
    `${method}${ring_layout === null ? '' : ` in ${ring_layout}`} on ${ranks} rank${ranks === 1 ? '' : 's'}`,
    ...(blocks === 'balanced' ? ['balanced blocks'] : []),
    ...(method === 'apb' ? [`l_a ${anchor}`, `l_p ${passing}`] : []),
  ].join(', ');
}

function explain({ policy }: PlanRequest, chosen: Candidate, exact: Candidate, other?: Candidate): string {
  const seconds = (candidate: Candidate) => `${candidate.seconds.toPrecision(3)} s`;
  if (other === undefined) {
    const only = policy === 'exact' ? 'the policy allows exact ways alone' : 'one rank reads exactly';
    return `${only}, and ${describeWay(chosen)} is the best of them by prediction (${seconds(chosen)})`;
  }
  if (chosen === other) {
    const times = (exact.seconds / chosen.seconds).toFixed(2);
    return `${describeWay(chosen)} is predicted to be ${times} times as fast as the best exact way (${seconds(chosen)}; ${describeWay(exact)} ${seconds(exact)})`;
  }
  const much =
    other.seconds >= exact.seconds
      ? 'is not faster'
      : `would be ${percent(other, exact)} faster, less than the ${100 * APPROXIMATION_GAIN} % that an approximation must gain`;
  return `exact, because the best way that is not (${describeWay(other)}, ${seconds(other)}) ${much}: ${describeWay(chosen)} takes ${seconds(chosen)}`;
}

function passedOver(passed: Candidate, chosen: Candidate): string {
  return `${describeWay(passed)} would be ${percent(passed, chosen)} faster, less than the ${100 * BALANCED_GAIN} % that balanced blocks must gain`;
}

const percent = (faster: Candidate, slower: Candidate) =>
  `${(100 * (slower.seconds / faster.seconds - 1)).toFixed(1)} %`;
