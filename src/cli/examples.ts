import type { Command } from 'commander';

/** By the words of a command: what its `--help` ends with. */
const examples: Readonly<Record<string, string>> = {
  longhaul: 'longhaul submit requests.jsonl --wait --out results',
  'longhaul submit': 'longhaul submit requests.jsonl --wait --out results',
  'longhaul status': 'longhaul status --watch',
  'longhaul results': 'longhaul results batch_0123456789abcdef --out results',
  'longhaul cancel': 'longhaul cancel batch_0123456789abcdef',
  'longhaul retry': 'longhaul retry batch_0123456789abcdef --only failed',
  'longhaul dead': 'longhaul dead list',
  'longhaul dead list': 'longhaul dead list --batch batch_0123456789abcdef',
  'longhaul dead show': 'longhaul dead show batch_0123456789abcdef/3',
  'longhaul dead redrive': 'longhaul dead redrive batch_0123456789abcdef/3',
  'longhaul dead drop': 'longhaul dead drop batch_0123456789abcdef/3 --yes',
  'longhaul batch': 'longhaul batch list --limit 50',
  'longhaul batch list': 'longhaul batch list --all --json',
  'longhaul batch rm': 'longhaul batch rm batch_0123456789abcdef',
  'longhaul batch retention': 'longhaul batch retention --batch-days 30 --document-days 45 > rules.json',
  'longhaul demo': 'longhaul demo --ranks 2',
  'longhaul local': 'longhaul local up --ranks 4',
  'longhaul local up': 'longhaul local up --ranks 4 --backend cpu',
  'longhaul local down': 'longhaul local down',
  'longhaul local status': 'longhaul local status --json',
  'longhaul worker': 'longhaul worker --rank 0 --ranks 4 --cohort main --host 10.0.0.5',
  'longhaul aggregator': 'longhaul aggregator --log-level debug',
  'longhaul dashboard': 'longhaul dashboard --dashboard-port 8080',
  'longhaul dashboard password': 'longhaul dashboard password < password.txt',
  'longhaul gateway':
    'longhaul gateway --gateway-host 0.0.0.0 --gateway-tls-cert cert.pem --gateway-tls-key key.pem',
  'longhaul gateway key': 'longhaul gateway key add search-team',
  'longhaul gateway key add': 'longhaul gateway key add search-team --batches 20',
  'longhaul gateway key list': 'longhaul gateway key list --json',
  'longhaul gateway key revoke': 'longhaul gateway key revoke key_0123456789abcdef',
  'longhaul schedule': 'longhaul schedule list',
  'longhaul schedule add':
    'longhaul schedule add nightly --cron "0 6 * * *" --tz Europe/Berlin --input s3://bucket/inbox/ --prompt question.txt',
  'longhaul schedule list': 'longhaul schedule list --json',
  'longhaul schedule pause': 'longhaul schedule pause nightly',
  'longhaul schedule resume': 'longhaul schedule resume nightly',
  'longhaul schedule run-now': 'longhaul schedule run-now nightly',
  'longhaul schedule remove': 'longhaul schedule remove nightly',
  'longhaul schedule history': 'longhaul schedule history nightly --limit 5',
  'longhaul scheduler': 'longhaul scheduler --log-level debug',
  'longhaul engine': 'longhaul engine info',
  'longhaul engine info': 'longhaul engine info --json',
  'longhaul engine build': 'longhaul engine build',
  'longhaul engine check': 'longhaul engine check test/cases --method ring',
  'longhaul engine confirm': 'longhaul engine confirm --lengths 2048 --methods apb',
  'longhaul bench': 'longhaul bench prefill --tokens 4096',
  'longhaul bench prefill': 'longhaul bench prefill --ranks 2 --tokens 4096,8192 --out report',
  'longhaul bench cpu': 'longhaul bench cpu --methods full,apb --ranks 1,2 --tokens 4096,8192',
  'longhaul plan': 'longhaul plan 32768 --max-ranks 4 --policy balanced',
  'longhaul eval': 'longhaul eval ruler --out report --tokens 2048 --documents 8',
  'longhaul eval ruler':
    'longhaul eval ruler --local --out report --tasks niah_single_1,vt --methods full,apb,apb:passing=0,apb:ranks=8',
  'longhaul eval questions': 'longhaul eval questions --local --out report --counts 1,4,16',
  'longhaul eval file': 'longhaul eval file questions.jsonl --out report --measure f1',
  'longhaul eval infinitebench':
    'longhaul eval infinitebench InfiniteBench --out report --tasks passkey --documents 20',
  'longhaul heads': 'longhaul heads convert heads.bin retaining_heads.safetensors',
  'longhaul heads convert': 'longhaul heads convert heads.bin retaining_heads.safetensors',
  'longhaul completion': 'source <(longhaul completion bash)',
  'longhaul doctor': 'longhaul doctor --json',
};

export function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** After all other help texts of the command and of those below it. */
export function addExamples(command: Command): void {
  const example = examples[pathOf(command)];
  if (example !== undefined) command.addHelpText('after', `\nExample:\n  ${example}`);
  for (const sub of command.commands) addExamples(sub);
}
