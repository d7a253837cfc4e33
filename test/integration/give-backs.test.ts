/** An item that comes back again and again through nobody's fault: real Redis, leader and aggregator, no engine. */
import { expect, it } from 'vitest';
import { createBatch } from '../../src/batch/create.js';
import { withQueues } from '../../src/batch/queues.js';
import type { WorkItem } from '../../src/contracts/work-item.js';
import { Leader } from '../../src/gpu-worker/leader.js';
import type { Failure, Ticket } from '../../src/gpu-worker/messages.js';
import type { PreparedItem } from '../../src/gpu-worker/prepare-item.js';
import type { Input } from '../../src/gpu-worker/protocol-types.js';
import { jobIds, redisKeys } from '../../src/platform/keys.js';
import { createLogger } from '../../src/platform/logger.js';
import { createRedis } from '../../src/platform/redis.js';
import { makeBatch, newId, makeResult, useBench } from './batch-support.js';

const file = useBench();
const TIMES = 50;
const fault: Failure = { kind: 'infrastructure', code: 'S3', message: 'S3 is away' };

/** A leader as a rank has it; the test plays the other ranks. `use` gets the item's ticket once it runs. */
async function lead(item: WorkItem, use: (leader: Leader, run: Run) => Promise<void>): Promise<void> {
  const { config } = file.bench;
  const bullmq = createRedis(config.redisUrl, 'bullmq');
  const inputs: Input[] = [];
  let told: () => void = () => undefined;
  const next = async <T extends Input['type']>(type: T): Promise<Extract<Input, { type: T }>> => {
    for (;;) {
      const at = inputs.findIndex((input) => input.type === type);
      if (at >= 0) return inputs.splice(at, 1)[0] as Extract<Input, { type: T }>;
      await new Promise<void>((resolve) => (told = resolve));
    }
  };
  const prepared: PreparedItem = { item, block: new Uint32Array(), blocks: [], groups: [] };
  const output = {
    decoded: [],
    prefillSeconds: 0,
    decodeSeconds: 0,
    phases: null,
    passedBytes: { sent: 0, received: 0 },
  };
  const leader = new Leader({
    // What is waited for here is only the pauses after faults and the grace of a drain.
    config: {
      ...config,
      timings: { ...config.timings, drain: 1, faultBackoffFirst: 1, faultBackoffLast: 2 },
    },
    redis: file.bench.deps.redis,
    bullmq,
    logger: createLogger('worker', config),
    generation: '1.test',
    dispatch: (input) => {
      inputs.push(input);
      told();
    },
    work: () => ({ prepared, output }),
    buildResult: () => Promise.resolve(makeResult(item)),
  });
  try {
    leader.start();
    leader.claims(true);
    await use(leader, {
      async prepared() {
        const { batch, item: index, epoch } = await next('claimed');
        return { run: 1, batch, item: index, epoch };
      },
      async going(ticket) {
        await leader.confirm(ticket);
        expect(await next('confirmed')).toMatchObject({ go: true });
      },
      stopped: async () => void (await next('stop')),
    });
  } finally {
    await leader.close();
    bullmq.disconnect();
  }
}

interface Run {
  prepared(): Promise<Ticket>;
  going(ticket: Ticket): Promise<void>;
  stopped(): Promise<void>;
}

it('fifty drains and fifty infrastructure faults burn nothing: the item is answered', async () => {
  const { bench } = file;
  const { deps } = bench;
  const id = newId();
  const { manifest, items } = makeBatch(id, { items: [1] });
  const [item] = items as [WorkItem];
  await createBatch(deps, manifest, items);
  // Each leader is ended like a process by SIGTERM, in the middle of the run.
  for (let drain = 1; drain <= TIMES; drain++) {
    await lead(item, async (leader, run) => {
      const ticket = await run.prepared();
      expect(ticket.epoch).toBe(drain);
      await run.going(ticket);
      leader.drain();
      await run.stopped();
      leader.settle(ticket, { kind: 'end', end: 'stopped' });
    });
  }
  // One leader through all faults: half of them while preparing, half with the ranks lost after GO.
  await lead(item, async (leader, run) => {
    for (let n = 1; n <= TIMES; n++) {
      const ticket = await run.prepared();
      expect(ticket.epoch).toBe(TIMES + n);
      if (n % 2 === 0) {
        leader.settle(ticket, { kind: 'refused', failure: fault });
      } else {
        await run.going(ticket);
        const cause = { code: 'FENCED', message: 'Redis was away', rank: 0 };
        leader.settle(ticket, { kind: 'lost', cause });
      }
    }
  });
  await withQueues(deps.redis, async ({ documents }) => {
    const job = await documents.getJob(jobIds.document(id, 0));
    expect(job).toMatchObject({ attemptsStarted: 2 * TIMES, attemptsMade: 0 });
    expect(await job?.getState()).toMatch(/delayed|prioritized|waiting/);
  });
  const counters = await deps.redis.hgetall(redisKeys.item(id, 0));
  expect(counters).toEqual({ infrastructure_faults: String(TIMES / 2), last_fault: 'S3: S3 is away' });

  await lead(item, async (leader, run) => {
    const ticket = await run.prepared();
    await run.going(ticket);
    leader.settle(ticket, { kind: 'end', end: 'done' });
  });
  bench.aggregator();
  expect((await bench.ended(id)).request_counts).toMatchObject({ total: 1, answered: 1, failed: 0 });
  expect(await bench.outcomeKeys(id)).toHaveLength(1);
  expect((await bench.files(id)).output).toMatchObject([{ custom_id: 'request 0', status: 'answered' }]);
});
