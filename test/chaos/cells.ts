/** The kill matrix: who dies or freezes where, in cohorts of how many ranks. */
import type { TestPoint } from '../../src/platform/test-points.js';

export interface Cell {
  /** `rank 0` is the leader. */
  whom: 'aggregator' | 'producer' | `rank ${number}`;
  point: TestPoint;
  ranks: number;
  /** Stopped for longer than the lease, then let go on: a zombie that believes it still holds its work. */
  frozen?: true;
}

const ofEveryRank = ['forming', 'prepare', 'go', 'prefill', 'decode'] as const satisfies TestPoint[];
const ofTheLeader = ['complete', 'completed'] as const satisfies TestPoint[];
const ofTheAggregator = [
  'commit',
  'outcomes',
  'recorded',
  'finalise',
  'files',
  'success',
] as const satisfies TestPoint[];
const ofTheProducer = ['checked', 'staged', 'items', 'manifest', 'enqueued'] as const satisfies TestPoint[];

const ranksOf = (ranks: number) => Array.from({ length: ranks }, (_, rank) => rank);
const cell = (ranks: number, whom: Cell['whom'], point: TestPoint): Cell => ({ whom, point, ranks });

const surroundings = [
  ...ofTheAggregator.map((point) => cell(2, 'aggregator', point)),
  ...ofTheProducer.map((point) => cell(2, 'producer', point)),
];

const freezes: Cell[] = [
  cell(2, 'rank 0', 'prefill'),
  cell(2, 'rank 0', 'complete'),
  cell(2, 'rank 1', 'decode'),
  cell(2, 'aggregator', 'commit'),
  cell(2, 'aggregator', 'outcomes'),
].map((each) => ({ ...each, frozen: true }));

/** Each rank of 2, 3 and 4 at each of its points, a rank alone, the aggregator, the producer. */
export const wholeMatrix: Cell[] = [
  cell(1, 'rank 0', 'prefill'),
  ...[2, 3, 4].flatMap((ranks) => [
    ...ofEveryRank.flatMap((point) => ranksOf(ranks).map((rank) => cell(ranks, `rank ${rank}`, point))),
    ...ofTheLeader.map((point) => cell(ranks, 'rank 0', point)),
  ]),
  ...surroundings,
  ...freezes,
];

/** Every point once or more, the leader and a follower at each that both have, every number of ranks. */
export const listedCells: Cell[] = [
  ...ofEveryRank.flatMap((point) => [cell(2, 'rank 0', point), cell(2, 'rank 1', point)]),
  ...ofTheLeader.map((point) => cell(2, 'rank 0', point)),
  cell(1, 'rank 0', 'prefill'),
  cell(3, 'rank 0', 'prefill'),
  cell(3, 'rank 1', 'go'),
  cell(3, 'rank 2', 'decode'),
  cell(4, 'rank 0', 'decode'),
  cell(4, 'rank 2', 'forming'),
  cell(4, 'rank 3', 'prefill'),
  ...surroundings,
  ...freezes.filter(({ point }) => point !== 'prefill' && point !== 'commit'),
];

export const nameOf = ({ whom, point, ranks, frozen }: Cell): string =>
  `${whom} of ${ranks}${frozen ? ' frozen' : ''} at ${point}`;
