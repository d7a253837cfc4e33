import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { S3Error } from './errors.js';

/**
 * AWS Signature Version 4, the receiving side: the signature in the Authorization header or in a
 * presigned query is computed again from the request as it came and compared.
 */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
}

/** What a signature covers of a request. */
export interface SignedParts {
  method: string;
  /** The path, decoded. */
  path: string;
  /** Query parameters, decoded, in the order they came. */
  query: [string, string][];
  headers: Record<string, string | undefined>;
}

/** What the body reader needs to go on from the request's signature to those of the chunks. */
export interface VerifiedSignature {
  accessKeyId: string;
  /** `x-amz-content-sha256`: a digest in hex, UNSIGNED-PAYLOAD, or one of the STREAMING forms. */
  payload: string;
  signature: string;
  timestamp: string;
  scope: string;
  signingKey: Buffer;
}

const maxSkewMs = 15 * 60_000;
const algorithm = 'AWS4-HMAC-SHA256';
/** The one region that this server is in. */
export const serverRegion = 'us-east-1';

export const sha256Hex = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
export const hmac = (key: string | Buffer, data: string): Buffer =>
  createHmac('sha256', key).update(data).digest();

/** Percent-encoding as AWS wants it: everything but unreserved characters, in upper-case hex. */
export function uriEncode(text: string, keepSlash = false): string {
  const encoded = encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return keepSlash ? encoded.replace(/%2F/g, '/') : encoded;
}

export function equalSignature(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function parseTimestamp(text: string): number {
  const m = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (!m)
    throw new S3Error(
      'AccessDenied',
      `X-Amz-Date ${JSON.stringify(text)} is not of the form 20260131T235959Z.`,
    );
  const [y, mo, d, h, mi, s] = m.slice(1).map(Number) as [number, number, number, number, number, number];
  return Date.UTC(y, mo - 1, d, h, mi, s);
}

interface Claim {
  credential: string;
  signedHeaders: string[];
  signature: string;
  timestamp: string;
  payload: string;
  presigned: boolean;
}

function claimOfHeader(authorization: string, headers: SignedParts['headers']): Claim {
  const fields = new Map(
    authorization
      .slice(algorithm.length)
      .split(',')
      .map((part) => {
        const at = part.indexOf('=');
        return [part.slice(0, at).trim(), part.slice(at + 1).trim()] as const;
      }),
  );
  const need = (name: string): string => {
    const value = fields.get(name);
    if (value) return value;
    throw new S3Error(
      'AuthorizationHeaderMalformed',
      `The authorization header is malformed; ${name} is missing.`,
    );
  };
  const payload = headers['x-amz-content-sha256'];
  if (payload === undefined)
    throw new S3Error('InvalidRequest', 'Missing required header for this request: x-amz-content-sha256');
  return {
    credential: need('Credential'),
    signedHeaders: need('SignedHeaders').split(';'),
    signature: need('Signature'),
    timestamp: headers['x-amz-date'] ?? '',
    payload,
    presigned: false,
  };
}

function claimOfQuery(query: Map<string, string>, headers: SignedParts['headers'], now: number): Claim {
  const need = (name: string): string => {
    const value = query.get(name);
    if (value) return value;
    throw new S3Error('AuthorizationQueryParametersError', `Query-string authentication needs ${name}.`);
  };
  if (need('X-Amz-Algorithm') !== algorithm)
    throw new S3Error('AuthorizationQueryParametersError', `X-Amz-Algorithm only supports "${algorithm}".`);
  const timestamp = need('X-Amz-Date');
  const seconds = Number(need('X-Amz-Expires'));
  if (!(seconds >= 1 && seconds <= 604_800))
    throw new S3Error(
      'AuthorizationQueryParametersError',
      'X-Amz-Expires must be between 1 and 604800 seconds.',
    );
  const start = parseTimestamp(timestamp);
  if (start > now + maxSkewMs) throw new S3Error('AccessDenied', 'Request is not yet valid');
  if (start + seconds * 1000 < now) throw new S3Error('AccessDenied', 'Request has expired');
  return {
    credential: need('X-Amz-Credential'),
    signedHeaders: need('X-Amz-SignedHeaders').split(';'),
    signature: need('X-Amz-Signature'),
    timestamp,
    payload: query.get('X-Amz-Content-Sha256') ?? headers['x-amz-content-sha256'] ?? 'UNSIGNED-PAYLOAD',
    presigned: true,
  };
}

export function verifySignature(
  request: SignedParts,
  known: Credentials | readonly Credentials[],
  now = Date.now(),
): VerifiedSignature {
  const { headers } = request;
  const query = new Map(request.query);
  const authorization = headers['authorization'];
  let claim: Claim;
  if (query.has('X-Amz-Signature')) claim = claimOfQuery(query, headers, now);
  else if (authorization?.startsWith(`${algorithm} `)) claim = claimOfHeader(authorization, headers);
  else if (authorization !== undefined)
    throw new S3Error('InvalidRequest', `Please use ${algorithm}; this server knows no other authorization.`);
  else throw new S3Error('AccessDenied', 'Access Denied: the request is not signed.');

  const [accessKey, date, region, service, terminator, ...rest] = claim.credential.split('/');
  if (!accessKey || !date || !region || service !== 's3' || terminator !== 'aws4_request' || rest.length > 0)
    throw new S3Error(
      'AuthorizationHeaderMalformed',
      `The credential ${JSON.stringify(claim.credential)} is not of the form <key>/<date>/<region>/s3/aws4_request.`,
    );
  if (region !== serverRegion)
    throw new S3Error(
      claim.presigned ? 'AuthorizationQueryParametersError' : 'AuthorizationHeaderMalformed',
      `The credential is for the region ${JSON.stringify(region)}; expecting '${serverRegion}'.`,
      { Region: serverRegion },
    );
  const sent = parseTimestamp(claim.timestamp);
  if (!claim.presigned && Math.abs(sent - now) > maxSkewMs)
    throw new S3Error(
      'RequestTimeTooSkewed',
      'The difference between the request time and the current time is too large.',
      {
        RequestTime: claim.timestamp,
        ServerTime: new Date(now).toISOString(),
        MaxAllowedSkewMilliseconds: String(maxSkewMs),
      },
    );
  if (!claim.timestamp.startsWith(date))
    throw new S3Error(
      'SignatureDoesNotMatch',
      `The credential's date ${date} is not the day of ${claim.timestamp}.`,
    );
  const credentials = [known].flat().find((one) => equalSignature(accessKey, one.accessKeyId));
  if (credentials === undefined)
    throw new S3Error(
      'InvalidAccessKeyId',
      'The AWS Access Key Id you provided does not exist in our records.',
      {
        AWSAccessKeyId: accessKey,
      },
    );

  const signed = new Set(claim.signedHeaders);
  const unsigned = Object.keys(headers).filter(
    (h) => (h === 'host' || h.startsWith('x-amz-')) && !signed.has(h),
  );
  if (unsigned.length > 0)
    throw new S3Error('AccessDenied', 'There were headers present in the request which were not signed', {
      HeadersNotSigned: unsigned.join(', '),
    });

  const scope = `${date}/${region}/s3/aws4_request`;
  const canonicalQuery = request.query
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]) => `${uriEncode(name)}=${uriEncode(value)}`)
    .sort()
    .join('&');
  const canonical = [
    request.method,
    uriEncode(request.path, true),
    canonicalQuery,
    ...claim.signedHeaders.map((h) => `${h}:${(headers[h] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    claim.signedHeaders.join(';'),
    claim.payload,
  ].join('\n');
  const toSign = [algorithm, claim.timestamp, scope, sha256Hex(canonical)].join('\n');
  const signingKey = hmac(
    hmac(hmac(hmac(`AWS4${credentials.secretAccessKey}`, date), region), 's3'),
    'aws4_request',
  );
  if (!equalSignature(hmac(signingKey, toSign).toString('hex'), claim.signature))
    throw new S3Error(
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided. Check your key and signing method.',
      { AWSAccessKeyId: accessKey, StringToSign: toSign, CanonicalRequest: canonical },
    );
  return {
    accessKeyId: accessKey,
    payload: claim.payload,
    signature: claim.signature,
    timestamp: claim.timestamp,
    scope,
    signingKey,
  };
}
