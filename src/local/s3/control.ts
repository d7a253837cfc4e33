import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { S3Error } from './errors.js';
import type { Reply } from './exchange.js';
import { faultSwitchesSchema, type Faults } from './faults.js';

/**
 * The control surface for tests in other processes: `/_faults`, from the loopback interface only,
 * with `Authorization: Bearer <secret key>`. The underscore keeps it apart from every bucket name.
 *   GET     state and hit counts
 *   POST    a rule (see faults.ts); replies with its id
 *   PATCH   the switches: outage, ignoreConditions
 *   DELETE  everything back to normal
 */
export const controlPath = '/_faults';

export async function control(request: IncomingMessage, faults: Faults, secret: string): Promise<Reply> {
  const from = request.socket.remoteAddress ?? '';
  if (!/^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/.test(from))
    throw new S3Error('AccessDenied', `${controlPath} answers the loopback interface only, not ${from}.`);
  const given = Buffer.from(request.headers.authorization ?? '');
  const wanted = Buffer.from(`Bearer ${secret}`);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted))
    throw new S3Error('AccessDenied', `${controlPath} needs Authorization: Bearer <secret key>.`);
  const json = (value: unknown): Reply => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(value),
  });
  switch (request.method) {
    case 'GET':
      return json(faults.state());
    case 'DELETE':
      faults.clear();
      return json(faults.state());
    case 'POST':
    case 'PATCH':
      try {
        const body: unknown = JSON.parse(await textOf(request));
        if (request.method === 'POST') return json({ id: faults.add(body as Parameters<Faults['add']>[0]) });
        faults.set(faultSwitchesSchema.parse(body));
        return json(faults.state());
      } catch (cause) {
        if (cause instanceof SyntaxError || cause instanceof z.ZodError)
          throw new S3Error('InvalidRequest', `The fault is not understood: ${cause.message}`, {}, { cause });
        throw cause;
      }
    default:
      throw new S3Error('MethodNotAllowed', `${controlPath} knows GET, POST, PATCH and DELETE.`);
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > 64 * 1024) throw new S3Error('EntityTooLarge', 'A fault may have 64 KB.');
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
