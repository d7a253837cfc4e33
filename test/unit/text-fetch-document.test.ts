import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createServer as createSocketServer, type AddressInfo } from 'node:net';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import type { DocumentFormat } from '../../src/contracts/request.js';
import type { ObjectStore } from '../../src/platform/object-store.js';
import { isPublicAddress, publicLookup, type Resolver } from '../../src/text/public-address.js';
import { SourceError, streamDocumentUrl } from '../../src/text/readers.js';
import { allowsObject, type SourcePolicy } from '../../src/text/source-policy.js';
import { anywhere } from '../support/source-policy.js';

const pem = (name: string) => readFileSync(new URL(`../fixtures/tls/${name}.pem`, import.meta.url), 'utf8');
const ca = pem('certificate');
const open: SourcePolicy = {
  ...anywhere,
  allowHttp: true,
  ca,
  backOffMs: 10,
  connectMs: 2000,
  idleMs: 1000,
  totalMs: 10_000,
};
const service: SourcePolicy = { ...open, allowPrivateAddresses: false };
const noStore = undefined as unknown as ObjectStore;

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
});

async function serve(listener: RequestListener, secure = false): Promise<string> {
  const server = secure ? createTlsServer({ key: pem('key'), cert: ca }, listener) : createServer(listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `${secure ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
/** One answer for every request. */
const answer = (
  body: string | Buffer,
  headers: Record<string, string> = {},
  status = 200,
): RequestListener => {
  return (_, response) =>
    void response.writeHead(status, { 'content-type': 'text/plain', ...headers }).end(body);
};

interface Options {
  policy?: SourcePolicy;
  format?: DocumentFormat;
  resolve?: Resolver;
  signal?: AbortSignal;
}
async function get(url: string, { policy = open, ...options }: Options = {}): Promise<string> {
  let text = '';
  for await (const piece of streamDocumentUrl(noStore, url, { policy, ...options })) text += piece;
  return text;
}
async function refusal(url: string, options: Options = {}): Promise<string> {
  const error = await get(url, options).then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(SourceError);
  const { code, message } = error as SourceError;
  expect(message.startsWith(url)).toBe(true);
  return `${code}${message.slice(url.length)}`;
}

describe('what is fetched', () => {
  test('text over TLS is the same text; a certificate that nobody knows is refused', async () => {
    const base = await serve(answer('Grüße 🙂\r\n'), true);
    expect(await get(`${base}/a.txt`, { policy: { ...open, allowHttp: false } })).toBe('Grüße 🙂\r\n');
    expect(await refusal(`${base}/a.txt`, { policy: { ...open, ca: undefined } })).toMatch(
      /UNREACHABLE cannot be fetched: .*certificate/,
    );
  });

  test('the content type says how to read it; its name and the person say more', async () => {
    const markup = '# A <b>b</b>';
    const as = (type: string) => serve(answer(markup, { 'content-type': type }));
    expect(await get(`${await as('text/html; charset=UTF-8')}/a.txt`)).toBe('# A b');
    expect(await get(`${await as('text/markdown')}/a`)).toBe('# A b');
    expect(await get(`${await as('text/plain')}/README.md?raw=1`)).toBe('# A b');
    expect(await get(`${await as('text/plain')}/a`)).toBe(markup);
    expect(await get(`${await as('text/html')}/a`, { format: 'text' })).toBe(markup);
    expect(await get(`${await as('application/ld+json')}/a`)).toBe(markup);
    expect(await get(`${await as('application/octet-stream')}/a.html`)).toBe('# A b');
    expect(await refusal(`${await as('application/octet-stream')}/a`)).toMatch(
      /TYPE_REFUSED is application\/octet-stream; say/,
    );
    expect(await refusal(`${await as('application/pdf')}/a.txt`, { format: 'text' })).toMatch(
      /TYPE_REFUSED is application\/pdf; only text/,
    );
    expect(await refusal(`${await as('image/png')}/a.md`)).toMatch(/TYPE_REFUSED is image\/png/);
  });

  test('the character set comes from the mark, the server or the page, and must hold', async () => {
    const latin = Buffer.from('<meta charset="iso-8859-1"><p>caf\xe9', 'latin1');
    const html = { 'content-type': 'text/html' };
    expect(await get(await serve(answer(latin, html)))).toBe('café');
    expect(await get(await serve(answer(latin, { 'content-type': 'text/html; charset="latin1"' })))).toBe(
      'café',
    );
    expect(await refusal(await serve(answer(latin, { 'content-type': 'text/html; charset=utf-8' })))).toMatch(
      /NOT_UTF8 is not UTF-8: byte 0xe9 at offset/,
    );
    expect(
      await refusal(await serve(answer(latin, { 'content-type': 'text/html; charset=klingon' }))),
    ).toMatch(/CHARSET says that its character set is "klingon"/);
    const utf16 = Buffer.from('\uFEFFgrüß', 'utf16le');
    expect(await get(await serve(answer(utf16)))).toBe('grüß');
    expect(await refusal(await serve(answer(utf16.subarray(0, 5))))).toMatch(
      /CHARSET has bytes that are not utf-16le/,
    );
  });

  test('compressed answers are read, and bounded by what they hold', async () => {
    const text = 'word '.repeat(1000);
    const packed = (body: Buffer, encoding: string) => serve(answer(body, { 'content-encoding': encoding }));
    expect(await get(await packed(gzipSync(text), 'gzip'))).toBe(text);
    expect(await get(await packed(brotliCompressSync(text), 'br'))).toBe(text);
    expect(await refusal(await packed(Buffer.from(text), 'zstd'))).toMatch(/TYPE_REFUSED is encoded as zstd/);
    expect(await refusal(await packed(gzipSync(text).subarray(0, 20), 'gzip'))).toMatch(
      /UNREACHABLE cannot be fetched/,
    );
    const bomb = gzipSync(Buffer.alloc(50_000_000, 97));
    expect(bomb.length).toBeLessThan(60_000);
    expect(await refusal(await packed(bomb, 'gzip'), { policy: { ...open, maxBytes: 1_000_000 } })).toMatch(
      /TOO_LARGE is larger than 1000000 bytes/,
    );
  });

  test('too large is refused before it comes when it is announced, and while it comes otherwise', async () => {
    const policy = { ...open, maxBytes: 100_000 };
    let sent = 0;
    const announced = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '900000000' }).write('x');
    });
    expect(await refusal(announced, { policy })).toMatch(/TOO_LARGE/);
    const endless = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(10_000))) sent += 10_000;
        response.once('drain', more);
      };
      more();
    });
    expect(await refusal(endless, { policy })).toMatch(/TOO_LARGE/);
    expect(sent).toBeLessThan(50_000_000);
  });

  test('errors are named; what may pass is tried three times', async () => {
    let asked = 0;
    const flaky = await serve((_, response) => {
      asked += 1;
      response.writeHead(asked < 3 ? 503 : 200, { 'content-type': 'text/plain' }).end('at last');
    });
    expect(await get(flaky)).toBe('at last');
    expect(await refusal(await serve(answer('', {}, 404)))).toMatch(/UNREACHABLE answers 404 Not Found/);
    expect(await refusal(await serve(answer('')))).toMatch(/EMPTY is empty/);
    const cut = await serve((_, response) => {
      response
        .writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' })
        .write('half', () => response.destroy());
    });
    expect(await refusal(cut)).toMatch(/UNREACHABLE cannot be fetched/);
    expect(await refusal('http://127.0.0.1:9')).toMatch(/UNREACHABLE cannot be fetched: .*ECONNREFUSED/);
    expect(await refusal('http://no-such-host.invalid')).toMatch(/UNREACHABLE cannot be fetched/);
  });
});

describe('time', () => {
  const quick = { ...open, connectMs: 200, idleMs: 200, totalMs: 600 };
  test('a server that takes no connection, sends no answer, falls silent, or drips', async () => {
    const mute = createSocketServer().listen(0, '127.0.0.1');
    await once(mute, 'listening');
    try {
      // A plain socket takes the connection, but never speaks TLS.
      const url = `https://127.0.0.1:${(mute.address() as AddressInfo).port}/`;
      expect(await refusal(url, { policy: { ...quick, totalMs: 5000 } })).toMatch(
        /TIMEOUT took no connection within 0.2 s/,
      );
    } finally {
      mute.close();
    }
    const policy = { ...quick, totalMs: 5000 };
    expect(await refusal(await serve(() => undefined), { policy })).toMatch(
      /TIMEOUT sent no answer within 0.2 s/,
    );
    const silent = await serve(
      (_, response) => void response.writeHead(200, { 'content-type': 'text/plain' }).write('x'),
    );
    expect(await refusal(silent, { policy })).toMatch(/TIMEOUT sent nothing for 0.2 s/);
    const dripping = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' });
      const timer = setInterval(() => response.write('x'), 50);
      response.on('close', () => clearInterval(timer));
    });
    expect(await refusal(dripping, { policy: quick })).toMatch(/TIMEOUT took longer than 0.6 s/);
  });

  test('an aborted fetch ends with the reason that it was given', async () => {
    const reason = new Error('enough');
    const url = await serve(() => undefined);
    const stop = new AbortController();
    setTimeout(() => stop.abort(reason), 50);
    await expect(get(url, { signal: stop.signal })).rejects.toBe(reason);
  });
});

describe('redirects', () => {
  test('five are followed, the sixth is not; without a place there is none', async () => {
    const base = await serve((request, response) => {
      const left = Number(request.url?.slice(1));
      if (left === 0) response.writeHead(200, { 'content-type': 'text/plain' }).end('arrived');
      else response.writeHead(302, { location: `/${left - 1}` }).end();
    });
    expect(await get(`${base}/5`)).toBe('arrived');
    expect(await refusal(`${base}/6`)).toMatch(/UNREACHABLE redirects more than 5 times/);
    expect(await refusal(await serve(answer('', {}, 301)))).toMatch(
      /answers 301 .* without a place to go on to/,
    );
  });

  test('each is checked: no http after https, no other scheme, no password, no private address', async () => {
    const secret = await serve(answer('secret'));
    const to = (location: string, secure = false) => serve(answer('', { location }, 302), secure);
    expect(await refusal(await to(secret, true))).toMatch(
      /URL_REFUSED redirects to http:.*, which is http:\/\/ after https/,
    );
    expect(await refusal(await to('file:///etc/passwd'))).toMatch(/URL_REFUSED .*is neither https/);
    expect(await refusal(await to('http://a:b@127.0.0.1/'))).toMatch(
      /URL_REFUSED .*a user name or a password/,
    );
    const door = await to(secret);
    const policy = { ...service, privateHosts: [new URL(door).host] };
    expect(await refusal(door, { policy })).toMatch(/ADDRESS_REFUSED is on 127.0.0.1/);
    expect(await get(door, { policy: { ...policy, privateHosts: ['127.0.0.1'] } })).toBe('secret');
  });
});

describe('a service', () => {
  test.each([
    'http://127.0.0.1/',
    'http://2130706433/',
    'http://0177.0.0.1/',
    'http://0x7f.1/',
    'http://0.0.0.0/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::7f00:1]/',
    'http://[fe80::1]/',
    'http://[fd00:ec2::254]/',
    'http://[64:ff9b::a9fe:a9fe]/',
    'http://[2002:7f00:1::]/',
    'http://169.254.169.254/latest/meta-data/',
    'http://100.100.100.200/',
    'http://168.63.129.16/',
    'http://192.168.1.1/',
    'http://localhost/',
  ])('does not fetch %s', async (url) => {
    expect(await refusal(url, { policy: service })).toMatch(/^DOCUMENT_ADDRESS_REFUSED/);
  });

  test('knows public addresses', () => {
    for (const address of ['8.8.8.8', '2606:4700::1', '::ffff:8.8.8.8'])
      expect(isPublicAddress(address)).toBe(true);
    for (const address of [
      '',
      'x',
      '10.0.0.1',
      '::ffff:10.0.0.1',
      '224.0.0.1',
      'ff02::1',
      '::ffff:168.63.129.16',
    ]) {
      expect(isPublicAddress(address)).toBe(false);
    }
  });

  test('looks a name up once, and connects to what it has checked', async () => {
    const base = await serve(answer('inside'));
    const url = `http://rebinding.test:${new URL(base).port}/`;
    let asked = 0;
    const rebinding: Resolver = () => {
      asked += 1;
      return Promise.resolve([{ address: asked === 1 ? '192.0.2.255' : '127.0.0.1', family: 4 }]);
    };
    // Reserved, so refused: there is no second look-up that could say something else.
    expect(await refusal(url, { policy: service, resolve: rebinding })).toMatch(
      /^DOCUMENT_ADDRESS_REFUSED is on rebinding.test/,
    );
    expect(asked).toBe(1);
    const mixed: Resolver = () =>
      Promise.resolve([
        { address: '8.8.8.8', family: 4 },
        { address: '10.0.0.1', family: 4 },
      ]);
    expect(await refusal(url, { policy: service, resolve: mixed })).toMatch(/^DOCUMENT_ADDRESS_REFUSED/);
  });

  test('hands the socket the very addresses that were checked', async () => {
    const answers = [[{ address: '8.8.8.8', family: 4 }], [{ address: '127.0.0.1', family: 4 }]];
    const lookup = publicLookup(() => Promise.resolve(answers.shift() ?? []));
    const look = (all: boolean) =>
      new Promise((done) => lookup('a.test', { all }, (error, address) => done(error ?? address)));
    expect(await look(false)).toBe('8.8.8.8');
    expect(await look(true)).toBeInstanceOf(SourceError);
    expect(await look(true)).toBeInstanceOf(SourceError);
  });

  test('reads http only where it is told to', async () => {
    const url = await serve(answer('x'));
    expect(await refusal(url, { policy: anywhere })).toMatch(/URL_REFUSED is http:\/\/, which anybody/);
  });

  test('reads objects only of its buckets and prefixes', async () => {
    const policy = { ...service, buckets: ['docs', 'shared/public/'] };
    const allowed = (bucket: string, key: string) => allowsObject(policy, bucket, key);
    expect([allowed('docs', 'a/b'), allowed('shared', 'public/a')]).toEqual([true, true]);
    expect([
      allowed('longhaul', 'a'),
      allowed('shared', 'publicity/a'),
      allowed('shared', 'private'),
    ]).toEqual([false, false, false]);
    expect([allowed('shared', 'public/../private'), allowed('docs', './a')]).toEqual([false, false]);
    expect(await refusal('s3://longhaul/batches/x', { policy })).toMatch(
      /URL_REFUSED is not in this service's documentBuckets/,
    );
  });
});
