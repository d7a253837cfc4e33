import { S3ServiceException, type S3Client } from '@aws-sdk/client-s3';
import { s3Duration } from './metrics.js';

/** Measures each call of a client, its retries included. */
export function measureS3(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const operation = (commandName ?? 'unknown').replace(/Command$/, '');
        const end = s3Duration.startTimer({ operation });
        try {
          const reply = await next(args);
          end({ result: 'ok' });
          return reply;
        } catch (error) {
          end({ result: s3Result(error) });
          throw error;
        }
      },
    { step: 'initialize', name: 'longhaulMetrics', priority: 'high' },
  );
}

/** What came of a call that failed: `refused` (4xx: also what is not there, or is there already), `failed` (5xx), ... */
export function s3Result(error: unknown): 'refused' | 'failed' | 'aborted' | 'unreached' {
  if (error instanceof Error && error.name === 'AbortError') return 'aborted';
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  if (status === undefined) return 'unreached';
  return status < 500 ? 'refused' : 'failed';
}
