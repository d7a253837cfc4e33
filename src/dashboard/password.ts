import { randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { ConfigError } from '../platform/errors.js';

/** 64 MB and about a tenth of a second for each try. */
const COST = { N: 2 ** 16, r: 8, p: 1 };
const BYTES = 32;

function derive(password: string, salt: Buffer, { N, r, p }: typeof COST): Promise<Buffer> {
  const options: ScryptOptions = { N, r, p, maxmem: 256 * N * r };
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFC'), salt, BYTES, options, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}

/** `scrypt$N$r$p$salt$key`, for the setting `dashboardPasswordHash`. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  const key = await derive(password, salt, COST);
  return ['scrypt', COST.N, COST.r, COST.p, salt.toString('base64url'), key.toString('base64url')].join('$');
}

/** @throws ConfigError for a hash that `hashPassword` did not make. */
export function checkHash(hash: string): { cost: typeof COST; salt: Buffer; key: Buffer } {
  const [kind, N, r, p, salt, key, ...rest] = hash.split('$');
  const cost = { N: Number(N), r: Number(r), p: Number(p) };
  const powerOfTwo = Number.isInteger(Math.log2(cost.N)) && cost.N >= 2 ** 14 && cost.N <= 2 ** 20;
  const bounded = powerOfTwo && cost.r >= 1 && cost.r <= 32 && cost.p >= 1 && cost.p <= 16;
  const bytes = Buffer.from(key ?? '', 'base64url');
  if (kind !== 'scrypt' || !bounded || !salt || bytes.length !== BYTES || rest.length > 0)
    throw new ConfigError(
      'dashboardPasswordHash is damaged; make it anew with `longhaul dashboard password`',
    );
  return { cost, salt: Buffer.from(salt, 'base64url'), key: bytes };
}

export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  const { cost, salt, key } = checkHash(hash);
  return timingSafeEqual(await derive(password, salt, cost), key);
}
