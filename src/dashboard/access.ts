/**
 * Who may do what: a password opens a session; without one the dashboard serves the loopback interface
 * alone. Whatever changes something must come from our own page: its Origin is checked, and it sends
 * back the session's CSRF token.
 */
import '@fastify/cookie';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Config } from '../platform/config.js';
import { ConfigError, LonghaulError } from '../platform/errors.js';
import { VERSION } from '../platform/version.js';
import type { Session } from './api.js';
import { checkHash, verifyPassword } from './password.js';
import { Sessions, type LoginSession } from './sessions.js';

const COOKIE = 'longhaul_session';
const CSRF_HEADER = 'x-csrf-token';
const UNLOCK_MS = 10 * 60_000;

/** The page cannot be had, or the call not be made, by whoever asks. */
export class AccessError extends LonghaulError {
  constructor(
    code: 'SIGN_IN' | 'WRONG_PASSWORD' | 'TOO_MANY_TRIES' | 'FOREIGN_ORIGIN' | 'CSRF' | 'FOREIGN_HOST',
    readonly statusCode: number,
    message: string,
  ) {
    super(code, message);
  }
}

type AccessConfig = Pick<Config, 'dashboardHost' | 'dashboardPasswordHash' | 'dashboardUrl'>;

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);

/** @throws ConfigError when the dashboard would be open to whoever reaches the machine. */
export function checkExposure({ dashboardHost, dashboardPasswordHash: hash }: AccessConfig): void {
  if (hash !== undefined) checkHash(hash);
  else if (!isLoopback(dashboardHost)) {
    throw new ConfigError(
      `dashboardHost = ${dashboardHost} is reachable from other machines and dashboardPasswordHash is not set; set what \`longhaul dashboard password\` prints, or bind to 127.0.0.1`,
    );
  }
}

export class Access {
  private readonly sessions = new Sessions();
  /** Of everybody, where no password is set. */
  private readonly open: LoginSession | undefined;

  constructor(private readonly config: AccessConfig) {
    checkExposure(config);
    if (config.dashboardPasswordHash === undefined)
      this.open = { ...this.sessions.open().session, expiresAt: Infinity };
  }

  session(request: FastifyRequest): LoginSession | undefined {
    return this.open ?? this.sessions.get(request.cookies[COOKIE]);
  }

  /** Routes and hooks of all that follows in `app`. Those under `/api/` and `/queues` need a session. */
  register(app: FastifyInstance): void {
    app.addHook('onRequest', (request, _reply, done) => {
      this.checkHost(request);
      const path = request.url.split('?', 1)[0] ?? '';
      const closed = /^\/(api|queues|queues-unlocked)(\/|$)/.test(path);
      const free = path === '/api/session' || path === '/api/login';
      const session = this.session(request);
      if (closed && !free && session === undefined)
        throw new AccessError('SIGN_IN', 401, 'sign in first; the session has ended or there was none');
      if (path.startsWith('/queues-unlocked') && (session?.queuesUnlockedUntil ?? 0) < Date.now())
        throw new AccessError('SIGN_IN', 403, 'the queues are locked again; unlock them in the dashboard');
      if (request.method !== 'GET' && request.method !== 'HEAD') this.checkOwnPage(request, session, path);
      done();
    });
    app.get('/api/session', (request) => this.describe(this.session(request)));
    const login = z.strictObject({ password: z.string().max(1024) });
    app.post('/api/login', async (request, reply) =>
      this.login(login.parse(request.body).password, request, reply),
    );
    app.post('/api/logout', (request, reply) => {
      this.sessions.close(request.cookies[COOKIE] ?? '');
      void reply.clearCookie(COOKIE, { path: '/' });
      return this.describe(this.open);
    });
    const unlock = z.strictObject({ unlocked: z.boolean() });
    app.post('/api/queues', (request) => {
      const session = this.session(request);
      const { unlocked } = unlock.parse(request.body);
      if (session !== undefined) session.queuesUnlockedUntil = unlocked ? Date.now() + UNLOCK_MS : 0;
      return this.describe(session);
    });
  }

  private async login(password: string, request: FastifyRequest, reply: FastifyReply): Promise<Session> {
    const { dashboardPasswordHash: hash, dashboardUrl } = this.config;
    if (hash === undefined) return this.describe(this.open);
    if (!this.sessions.mayTry(request.ip))
      throw new AccessError('TOO_MANY_TRIES', 429, 'too many wrong passwords; wait a minute');
    // Counted before it is looked at, so that tries at the same time count too.
    this.sessions.tried(request.ip);
    if (!(await verifyPassword(password, hash)))
      throw new AccessError('WRONG_PASSWORD', 401, 'that is not the password');
    this.sessions.forgive(request.ip);
    const { id, session } = this.sessions.open();
    const secure = dashboardUrl?.startsWith('https:') ?? false;
    void reply.setCookie(COOKIE, id, { path: '/', httpOnly: true, sameSite: 'strict', secure });
    return this.describe(session);
  }

  private describe(session: LoginSession | undefined): Session {
    const until = session?.queuesUnlockedUntil ?? 0;
    return {
      signedIn: session !== undefined,
      password: this.config.dashboardPasswordHash !== undefined,
      csrf: session?.csrf ?? null,
      version: VERSION,
      queuesUnlockedUntil: until > Date.now() ? until : null,
    };
  }

  /** Without a password, a name that somebody else's DNS points here must not lead in. */
  private checkHost(request: FastifyRequest): void {
    if (this.open === undefined || isLoopback(request.hostname)) return;
    throw new AccessError(
      'FOREIGN_HOST',
      403,
      'without a password the dashboard answers to localhost and 127.0.0.1 only',
    );
  }

  private checkOwnPage(request: FastifyRequest, session: LoginSession | undefined, path: string): void {
    const own = new URL(this.config.dashboardUrl ?? `${request.protocol}://${request.host}`).origin;
    if (request.headers.origin !== own)
      throw new AccessError(
        'FOREIGN_ORIGIN',
        403,
        `the request comes from ${request.headers.origin ?? 'nowhere'}, not from ${own}; behind a proxy set dashboardUrl`,
      );
    // A login has no session yet, and Bull Board's page knows no token: their Origin says enough.
    if (path === '/api/login' || path.startsWith('/queues')) return;
    if (session === undefined || request.headers[CSRF_HEADER] !== session.csrf)
      throw new AccessError('CSRF', 403, 'the page is older than the session; load it again');
  }
}
