/**
 * Even against balanced blocks: processor seconds that each rank spends in one prefill, so that ranks may
 * outnumber processors and the machine may be shared. The slowest rank decides how long a prefill takes
 * where each has processors of its own.
 *
 *   node bench/blocks.js [--ranks 2,4] [--tokens 16384,32768] [--methods apb,full] [--model models/demo]
 *
 * JSON lines: method, ranks, tokens, l_a, l_p, cut (even, balanced), blocks, rank_seconds, slowest. Needs `make build`.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Engine, planLayout } from '../dist/gpu-worker/engine/engine.js';
import { evenBlocks, planBlocks } from '../dist/plan/blocks.js';

const collectiveTimeoutMs = 600_000;
const query = Uint32Array.of(1, 5, 6, 7, 8, 9, 10, 2);

if (process.send) serveRank();
else await bench();

/** A child: one rank that prefills what it is told. */
function serveRank() {
  const engine = Engine.create();
  let [rank, vocabulary] = [0, 0];
  const handle = async (message) => {
    switch (message.do) {
      case 'load': {
        rank = message.rank;
        ({ vocabulary } = await engine.load({ modelDir: message.model, backend: 'cpu', threads: 1 }));
        return { port: await engine.listen('127.0.0.1'), rates: await engine.measureRates() };
      }
      case 'connect':
        await engine.connect({ rank, peers: message.peers, secret: 'bench', deadlineMs: 60_000 });
        return {};
      default: {
        const { layout } = message;
        const plan = planLayout(layout);
        const { start, end } = plan.blocks[rank];
        const tokens = (from, to) =>
          Uint32Array.from({ length: to - from }, (_, i) => ((from + i) * 7919) % vocabulary);
        const before = process.cpuUsage();
        await engine.prefill({
          layout,
          head: tokens(0, rank === 0 ? 0 : plan.anchorDocument),
          block: tokens(start, end),
          query,
          collectiveTimeoutMs,
        });
        const { user, system } = process.cpuUsage(before);
        return { seconds: (user + system) / 1e6 };
      }
    }
  };
  process.on('disconnect', () => process.exit());
  process.on('message', (message) => {
    handle(message).then(
      (value) => process.send({ value }),
      (error) => process.send({ error: error.message }),
    );
  });
}

async function bench() {
  const { values } = parseArgs({
    options: {
      ranks: { type: 'string', default: '2,4' },
      tokens: { type: 'string', default: '16384,32768' },
      methods: { type: 'string', default: 'apb,full' },
      model: { type: 'string', default: 'models/demo' },
    },
  });
  const numbers = (text) => text.split(',').map(Number);
  for (const ranks of numbers(values.ranks)) {
    const children = Array.from({ length: ranks }, () => fork(fileURLToPath(import.meta.url)));
    try {
      const all = (message) => Promise.all(children.map((child, rank) => ask(child, { ...message, rank })));
      const loaded = await all({ do: 'load', model: values.model });
      await all({ do: 'connect', peers: loaded.map(({ port }) => `127.0.0.1:${port}`) });
      const rates = loaded.map((one) => one.rates);
      for (const tokens of numbers(values.tokens))
        for (const method of values.methods.split(',')) await compare(all, { method, ranks, tokens, rates });
    } finally {
      for (const child of children) child.kill();
    }
  }
}

async function compare(all, { method, ranks, tokens, rates }) {
  const apb = method === 'apb';
  // The ratio of the model's defaults at eight ranks, l_a 1024 and l_p 512 at 32K.
  const [anchor, passing] = apb ? [tokens / 32, tokens / 64] : [null, 0];
  const cuts = {
    even: evenBlocks(tokens, ranks),
    balanced: planBlocks({ method, ranks, anchor, passing }, tokens, rates),
  };
  for (const [cut, blocks] of Object.entries(cuts)) {
    const layout = {
      method,
      ranks,
      documentTokens: tokens,
      queryTokens: query.length,
      anchorLength: anchor,
      passingLength: passing,
      blocks,
    };
    const seconds = (await all({ do: 'prefill', layout })).map((one) => Number(one.seconds.toFixed(2)));
    const result = { method, ranks, tokens, l_a: anchor, l_p: passing, cut, blocks, rank_seconds: seconds };
    console.log(JSON.stringify({ ...result, slowest: Math.max(...seconds) }));
  }
}

function ask(child, message) {
  return new Promise((resolve, reject) => {
    child.once('message', ({ value, error }) => (error ? reject(new Error(error)) : resolve(value)));
    child.once('exit', (code) => reject(new Error(`a rank ended with ${code}`)));
    child.send(message);
  });
}
