/** The kill matrix as a table of docs/reliability.md, between its two marks. Only a matrix that passed whole is written. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { Cell } from './cells.js';

export interface CellResult extends Cell {
  /** From the death to `_SUCCESS`, and how long that may take. */
  seconds: number;
  bound: number;
}

const BEGIN = '<!-- kill matrix -->';
const END = '<!-- end of the kill matrix -->';

export function writeMatrix(path: string, results: CellResult[]): void {
  const text = readFileSync(path, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${path} has no place for the kill matrix`);
  const rows = results.map(
    ({ whom, point, ranks, frozen, seconds, bound }) =>
      `| ${whom === 'rank 0' ? 'rank 0 (leader)' : whom}${frozen ? ', frozen' : ''} | ${point} | ${ranks} | ${seconds.toFixed(1)} s | ${bound.toFixed(1)} s |`,
  );
  const longest = Math.max(...results.map(({ seconds }) => seconds));
  const table = [
    BEGIN,
    '',
    `${results.length} cells, each with three documents and six answers; the longest recovery took ${longest.toFixed(1)} s.`,
    `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, profile \`fast\`, ${new Date().toISOString().slice(0, 10)}, \`make chaos\`.`,
    '',
    '| killed or frozen | at | ranks | from the death to `_SUCCESS` | bound |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ];
  writeFileSync(path, text.slice(0, begin) + table.join('\n') + text.slice(end));
}
