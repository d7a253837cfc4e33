/**
 * How often APB answers right with each way to choose what is passed on: by retaining heads, by the query
 * (Spava), by chance, and with nothing passed. Documents and right answers are those of training/confirm.
 *
 *   node bench/selection.js [--documents 8] [--tokens 8192] [--ranks 4] [--anchor 512] [--passing 256] [--tasks multivalue]
 *
 * JSON lines: task, select, right, documents. Ranks are engines of this process. Needs `make build`.
 */
import { parseArgs } from 'node:util';
import { readRecordedDocuments } from '../dist/gpu-worker/check/confirm-file.js';
import { Engine, planLayout } from '../dist/gpu-worker/engine/engine.js';

const collectiveTimeoutMs = 600_000;
const endOfText = 3; // the demo model's <|eos|>

const { values } = parseArgs({
  options: {
    documents: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '8192' },
    ranks: { type: 'string', default: '4' },
    anchor: { type: 'string', default: '512' },
    passing: { type: 'string', default: '256' },
    tasks: { type: 'string', default: 'passkey,niah_single,niah_multikey,multivalue' },
  },
});
const ranks = Number(values.ranks);
const engines = Array.from({ length: ranks }, () => Engine.create());
try {
  const ports = await Promise.all(
    engines.map(async (engine) => {
      await engine.load({ modelDir: 'models/demo', backend: 'cpu', threads: 1 });
      return engine.listen('127.0.0.1');
    }),
  );
  const peers = ports.map((port) => `127.0.0.1:${port}`);
  await Promise.all(
    engines.map((engine, rank) => engine.connect({ rank, peers, secret: 'bench', deadlineMs: 60_000 })),
  );
  const all = readRecordedDocuments('training/confirm/demo.jsonl.gz').filter(
    ({ document }) => document.length === Number(values.tokens),
  );
  for (const task of values.tasks.split(',')) {
    const documents = all.filter((one) => one.task === task).slice(0, Number(values.documents));
    for (const select of ['heads', 'spava', 'random', 'nothing passed']) {
      let right = 0;
      for (const one of documents)
        right += Number((await answer(one, select)).join() === one.expected.join());
      console.log(JSON.stringify({ task, select, right, documents: documents.length }));
    }
  }
} finally {
  await Promise.all(engines.map((engine) => engine.dispose()));
}

async function answer({ document, query, expected }, select) {
  const nothing = select === 'nothing passed';
  const layout = {
    method: 'apb',
    ranks,
    documentTokens: document.length,
    queryTokens: query.length,
    anchorLength: Number(values.anchor),
    passingLength: nothing ? 0 : Number(values.passing),
  };
  const plan = planLayout(layout);
  const decoded = await Promise.all(
    engines.map(async (engine, rank) => {
      const { start, end } = plan.blocks[rank];
      await engine.prefill({
        layout,
        head: document.slice(0, rank === 0 ? 0 : plan.anchorDocument),
        block: document.slice(start, end),
        query,
        select: nothing ? 'heads' : select,
        collectiveTimeoutMs,
      });
      return engine.decode({ query, maxNewTokens: expected.length, eos: [endOfText], collectiveTimeoutMs });
    }),
  );
  return [...decoded[0].tokens];
}
