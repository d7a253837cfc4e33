/** Resident memory of processes and of Redis over time, and whether it grows. */
import { readFileSync } from 'node:fs';

export interface Series {
  name: string;
  points: { minute: number; megabytes: number }[];
}

const PAGE = 4096;

/** Resident megabytes of a process; undefined when it is gone. Linux only. */
export function residentMegabytes(pid: number): number | undefined {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
    return pages > 0 ? (pages * PAGE) / 2 ** 20 : undefined;
  } catch {
    return undefined;
  }
}

const middle = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

export interface Growth {
  /** Medians of the second and of the last quarter of the time, in MB: the first quarter is for warming up. */
  early: number;
  late: number;
  flat: boolean;
}

/** Flat: the last quarter lies at most an eighth and 8 MB above the second. */
export function growthOf({ points }: Series): Growth {
  const from = points[0]?.minute ?? 0;
  const span = (points.at(-1)?.minute ?? 0) - from;
  const quarter = (n: number) =>
    middle(
      points
        .filter(({ minute }) => minute >= from + (span * n) / 4 && minute <= from + (span * (n + 1)) / 4)
        .map(({ megabytes }) => megabytes),
    );
  const [early, late] = [quarter(1), quarter(3)];
  return { early, late, flat: late <= early * 1.125 + 8 };
}
