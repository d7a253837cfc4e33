import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../src/platform/errors.js';
import { redisOptions } from '../../src/platform/redis-address.js';

describe('redisUrl', () => {
  it('of one server stays as it is', () => {
    expect(redisOptions('redis://u:p@host:1/2')).toEqual({ address: 'redis://u:p@host:1/2', options: {} });
  });

  it('of sentinels names them, the master, the database, and who we are to both', () => {
    const { address, options } = redisOptions(
      'redis+sentinel://u:p%40%3Ax@a.example,b:1,[::1]:2/longhaul/3?sentinelUsername=s&sentinelPassword=q',
    );
    expect(address).toBeUndefined();
    expect(options).toMatchObject({
      sentinels: [
        { host: 'a.example', port: 26379 },
        { host: 'b', port: 1 },
        { host: '::1', port: 2 },
      ],
      name: 'longhaul',
      db: 3,
      username: 'u',
      password: 'p@:x',
      sentinelUsername: 's',
      sentinelPassword: 'q',
    });
    expect(options).not.toHaveProperty('tls');
    const alone = redisOptions('redis+sentinel://:p@a/m').options;
    expect(alone).toMatchObject({ password: 'p', name: 'm', db: 0 });
    expect(alone).not.toHaveProperty('username');
    expect(redisOptions('rediss+sentinel://a/m').options).toMatchObject({
      tls: {},
      sentinelTLS: {},
      enableTLSForSentinelMode: true,
    });
  });

  it('is refused where it cannot be read, without its password', () => {
    for (const url of [
      'redis+sentinel://u:hunter2@a:1',
      'redis+sentinel://u:hunter2@/m',
      'redis+sentinel:///m',
    ]) {
      expect(() => redisOptions(url), url).toThrow(ConfigError);
      expect(() => redisOptions(url), url).not.toThrow('hunter2');
    }
    expect(() => redisOptions('redis+sentinel://a:b:c/m')).toThrow('"a:b:c"; give host:port');
    expect(() => redisOptions('rediss+sentinel://a/m?ca=/none.pem')).toThrow('the ca of redisUrl, /none.pem');
  });
});
