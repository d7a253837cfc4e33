/** One rank of a check, in a process of its own; cohort.ts forks it. */
import { describeError } from '../../platform/errors.js';
import { Engine, planLayout } from '../engine/engine.js';
import { anchorQuery, layoutOf } from './layout.js';
import type { FromRank, RankResult, ToRank } from './messages.js';

const connectDeadlineMs = 30_000;
const collectiveTimeoutMs = 60_000;

type Start = Extract<ToRank, { kind: 'start' }>;
type Connect = Extract<ToRank, { kind: 'connect' }>;

function send(message: FromRank): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, undefined, undefined, (error) => (error ? reject(error) : resolve()));
  });
}

function next<K extends ToRank['kind']>(kind: K): Promise<Extract<ToRank, { kind: K }>> {
  return new Promise((resolve, reject) => {
    process.once('message', (message: ToRank) => {
      if (message.kind === kind) resolve(message as Extract<ToRank, { kind: K }>);
      else reject(new Error(`expected the message ${kind}, got ${message.kind}`));
    });
  });
}

async function run(engine: Engine, start: Start, connect: Promise<Connect>): Promise<RankResult> {
  const { input, rank } = start;
  const model = await engine.load({
    modelDir: start.modelDir,
    backend: start.backend,
    threads: start.threads,
  });
  if (input.ranks > 1) await send({ kind: 'listening', port: await engine.listen('127.0.0.1') });
  const { peers, secret } = input.ranks > 1 ? await connect : { peers: ['alone:0'], secret: '' };
  await engine.connect({ rank, peers, secret, deadlineMs: connectDeadlineMs });

  const layout = layoutOf(input);
  const plan = planLayout(layout);
  const pieces = [plan.blocks[rank], plan.mirrors[rank]];
  const query = Uint32Array.from(input.query);
  await engine.prefill({
    layout,
    head: Uint32Array.from(input.doc.slice(0, plan.anchorDocument)),
    block: Uint32Array.from(pieces.flatMap((piece) => input.doc.slice(piece?.start, piece?.end))),
    query: Uint32Array.from(anchorQuery(input)),
    select: input.select,
    selectSeed: input.select_seed,
    trace: true,
    collectiveTimeoutMs,
  });
  const question = { query, maxNewTokens: input.max_new_tokens, eos: input.eos, collectiveTimeoutMs };
  await engine.decode({ ...question, teacher: Uint32Array.from(start.tokens) });
  const trace = await engine.trace();
  return { backend: model.backend, trace, decoded: await engine.decode(question) };
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1)); // the check is gone
  const start = await next('start');
  const connect = next('connect');
  const engine = Engine.create();
  try {
    await send({ kind: 'done', result: await run(engine, start, connect) });
  } catch (error) {
    await send({ kind: 'failed', ...describeError(error) });
  } finally {
    await engine.dispose();
  }
  process.exit(0); // the channel would keep the process alive
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
