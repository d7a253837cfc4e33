import { LonghaulError } from '../platform/errors.js';

interface Details {
  /** The field or parameter at fault. */
  param?: string;
  headers?: Record<string, string>;
}

/** What a caller is told, in OpenAI's shape; `code` is one of OpenAI's where it has one. */
export class ApiError extends LonghaulError {
  readonly param: string | null;
  readonly headers: Record<string, string>;

  constructor(
    readonly status: number,
    code: string,
    message: string,
    { param, headers = {} }: Details = {},
  ) {
    super(code, message);
    this.param = param ?? null;
    // OpenAI's clients try 409, 429 and 5xx again unless they are told not to.
    this.headers = status === 409 ? { 'x-should-retry': 'false', ...headers } : headers;
  }

  toJSON(): object {
    const { message, param, code } = this;
    const type = this.status >= 500 ? 'server_error' : TYPES[this.status];
    return { error: { message, type: type ?? 'invalid_request_error', param, code } };
  }
}

const TYPES: Record<number, string> = { 401: 'authentication_error', 429: 'rate_limit_error' };

export const notFound = (what: 'file' | 'batch', id: string): ApiError =>
  new ApiError(404, 'not_found', `there is no ${what} ${JSON.stringify(id)} of this key`, { param: 'id' });
