import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { environmentName, loadConfig, toEnvironment } from '../../src/platform/config.js';
import { ConfigError } from '../../src/platform/errors.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'longhaul-config-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});
const load = (flags: Record<string, unknown> = {}, environment: Record<string, string> = {}) =>
  loadConfig({ flags, environment, directory });

describe('configuration', () => {
  it('takes flags before the environment, before the file, before local.json', () => {
    mkdirSync(join(directory, '.longhaul'));
    const local = { cohort: 'local', ranks: 2, threads: 3, s3Bucket: 'local-bucket' };
    writeFileSync(join(directory, '.longhaul/local.json'), JSON.stringify(local));
    writeFileSync(join(directory, 'c.json'), JSON.stringify({ cohort: 'file', ranks: 3, threads: 4 }));
    const config = load(
      { cohort: 'flag', rank: undefined },
      { LONGHAUL_COHORT: 'environment', LONGHAUL_RANKS: '5', LONGHAUL_CONFIG: 'c.json' },
    );
    expect(config).toMatchObject({ cohort: 'flag', ranks: 5, threads: 4, s3Bucket: 'local-bucket', rank: 0 });
  });

  it('takes OpenTelemetry’s own variables, after ours', () => {
    const standard = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://standard:4318',
      OTEL_EXPORTER_OTLP_HEADERS: 'a=1,b=x%20y',
      OTEL_SERVICE_NAME: 'mine',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
      OTEL_SOMETHING_ELSE: 'ignored',
    };
    const read = { otlpHeaders: 'a=1,b=x%20y', otlpService: 'mine', otlpShare: 0.25 };
    expect(load({}, standard)).toMatchObject({ otlpEndpoint: 'http://standard:4318', ...read });
    const ours = { ...standard, LONGHAUL_OTLP_ENDPOINT: 'http://ours:4318' };
    expect(load({}, ours)).toMatchObject({ otlpEndpoint: 'http://ours:4318', ...read });
    expect(() => load({}, { OTEL_EXPORTER_OTLP_HEADERS: 'hunter2' })).toThrow(/otlpHeaders = \(secret\)/);
  });

  it('names setting, value and source of what it refuses', () => {
    expect(() => load({}, { LONGHAUL_THREADS: 'many' })).toThrow(/threads = "many" \(from the environment\)/);
    expect(() => load({ redisUrl: 'http://x' })).toThrow(
      /redisUrl = "http:\/\/x" \(from a flag\): must start with/,
    );
  });

  it('refuses unknown LONGHAUL_ variables and settings of a file', () => {
    expect(() => load({}, { LONGHAUL_COHROT: 'a' })).toThrow(ConfigError);
    writeFileSync(join(directory, 'c.json'), '{"cohrot": 1}');
    expect(() => load({ config: 'c.json' })).toThrow(/cohrot/);
    writeFileSync(join(directory, 'c.json'), 'not json');
    expect(() => load({ config: 'c.json' })).toThrow(/c\.json cannot be read as JSON/);
  });

  it('never prints a secret: of a secret setting, in an address, of an unknown setting, around a syntax error', () => {
    const file = join(directory, 'c.json');
    const refusal = (text: string): string => {
      writeFileSync(file, text);
      try {
        load({ config: 'c.json' });
      } catch (error) {
        return inspect(error, { depth: 5 });
      }
      throw new Error('was not refused');
    };
    const cases: [file: string, named: RegExp][] = [
      ['{"s3SecretAccessKey": ["hunter2"]}', /s3SecretAccessKey = \(secret\) \(from c\.json\)/],
      ['{"s3AccessKeyId": ["hunter2"]}', /s3AccessKeyId = \(secret\)/],
      ['{"dashboardPasswordHash": "hunter2"}', /dashboardPasswordHash = \(secret\)/],
      ['{"redisUrl": "redis:/:hunter2/@x@queue:6379"}', /redisUrl = "\*\*\*@queue:6379"/],
      ['{"redisUrl": "http://user:hunter2@queue:6379"}', /redisUrl = "http:\/\/\*\*\*@queue:6379"/],
      [
        '{"redisUrl": "http://queue?password=hunter2&db=1"}',
        /redisUrl = "http:\/\/queue\?password=\*\*\*&db=1"/,
      ],
      [
        '{"redisUrl": "x+sentinel://u:hunter2@a:1,b/x?sentinelPassword=hunter2"}',
        /redisUrl = "x\+sentinel:\/\/\*\*\*@a:1,b/,
      ],
      ['{"dashboardUrl": "ftp://user:hunter2@x"}', /dashboardUrl = "ftp:\/\/\*\*\*@x"/],
      [
        '{"settings": {"s3SecretAccessKey": "hunter2"}, "s3SecretKey": "hunter2"}',
        /unknown setting settings \(from c\.json\); unknown setting s3SecretKey/,
      ],
      ['{"s3SecretAccessKey": hunter2}', /cannot be read as JSON/],
    ];
    for (const [text, named] of cases) {
      expect(refusal(text), text).toMatch(named);
      expect(refusal(text), text).not.toContain('hunter2');
    }
  });

  it('refuses a rank outside the cohort', () => {
    expect(() => load({ rank: 4, ranks: 4 })).toThrow('rank = 4 must be below ranks = 4');
  });

  it('hands every setting to a child process by environment', () => {
    const settings = {
      redisUrl: 'redis://127.0.0.1:1',
      s3PathStyle: true,
      ranks: 8,
      rank: 7,
      documentHosts: ['wiki.intern', '10.0.0.7:8443'],
      documentBuckets: [],
    };
    const environment = toEnvironment(settings);
    expect(environment).toHaveProperty(environmentName('s3PathStyle'), 'true');
    expect(load({}, environment)).toMatchObject(settings);
  });
});
