// A container's health check: where metrics are served, whether the process answers there. Without them a role that serves
// HTTP is asked for its page; of a rank whose heartbeat stops and an aggregator that cannot go on, which end themselves, it
// is enough that their process is there.
import { readdirSync, readFileSync } from 'node:fs';

const ports = {
  gateway: ['LONGHAUL_GATEWAY_PORT', 7080, '/healthz'],
  dashboard: ['LONGHAUL_DASHBOARD_PORT', 7070, '/api/session'],
};

/** The role in the arguments of longhaul's process; undefined: there is none. */
function runningRole() {
  for (const entry of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== '1')) {
    let words;
    try {
      words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
    } catch {
      // It ended while we looked.
      continue;
    }
    const at = words.findIndex((word) => /(^|\/)longhaul(\.js)?$/.test(word));
    if (at >= 0) return words[at + 1];
  }
  return undefined;
}

const role = process.argv[2] ?? runningRole();
if (role === undefined) {
  console.error('no longhaul process');
  process.exit(1);
}
const metrics = process.env.LONGHAUL_METRICS_PORT;
// A rank that adds its number to the port says so in its arguments.
const byRank =
  role === 'worker' && !/^(false|0|no|off)$/i.test(process.env.LONGHAUL_METRICS_PORT_BY_RANK ?? '');
const place = metrics === undefined || byRank ? ports[role] : ['LONGHAUL_METRICS_PORT', metrics, '/healthz'];
if (place !== undefined) {
  const [variable, standard, path] = place;
  const url = `http://127.0.0.1:${process.env[variable] ?? standard}${path}`;
  try {
    const answer = await globalThis.fetch(url, {
      signal: globalThis.AbortSignal.timeout(3000),
      redirect: 'manual',
    });
    if (answer.status >= 400) throw new Error(`status ${answer.status}`);
  } catch (error) {
    console.error(`${url}: ${error.message}`);
    process.exit(1);
  }
}
