import type { BatchRow } from '../api.js';
import { count, dateTime, duration, pace, shortId, when } from './format.js';
import { serverNow, useLive } from './live.js';
import { Badge, CountsBar } from './parts.js';
import { batchPath, Link } from './router.js';

function Row({ row: given }: { row: BatchRow }) {
  const row = useLive(`batch:${given.id}`) ?? given;
  const { id, input, status, counts, created_at, rate, eta } = row;
  const ended = counts.total - counts.pending;
  const created = created_at * 1000;
  return (
    <tr>
      <td class="name">
        <Link to={batchPath(id)} title={id}>
          {input === '' ? shortId(id) : input}
        </Link>
        <span class="sub">{shortId(id)}</span>
        <div class="only-phone">
          <CountsBar counts={counts} />
        </div>
      </td>
      <td>
        <Badge state={status} />
      </td>
      <td class="progress">
        <CountsBar counts={counts} />
      </td>
      <td class="number">
        {count(ended)}/{count(counts.total)}
      </td>
      <td class={`number narrow ${counts.failed > 0 ? 'bad-text' : ''}`}>{count(counts.failed)}</td>
      <td class="number narrow">{rate === null ? '–' : pace(rate)}</td>
      <td class="number narrow">
        {row.completed_at !== null ? '–' : eta === null ? 'not known' : duration(eta)}
      </td>
      <td class="number narrow" title={dateTime(created)}>
        {when(created, serverNow())}
      </td>
    </tr>
  );
}

export function BatchTable({ rows, empty }: { rows: BatchRow[] | undefined; empty: string }) {
  if (rows === undefined) return <p class="empty">Loading</p>;
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Batch</th>
          <th scope="col">State</th>
          <th scope="col" class="progress">
            Progress
          </th>
          <th scope="col" class="number">
            Ended
          </th>
          <th scope="col" class="number narrow">
            Failed
          </th>
          <th scope="col" class="number narrow">
            Rate
          </th>
          <th scope="col" class="number narrow">
            Left
          </th>
          <th scope="col" class="number narrow">
            Created
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <Row key={row.id} row={row} />
        ))}
      </tbody>
    </table>
  );
}
