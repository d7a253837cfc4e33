import type { Config } from '../platform/config.js';
import { ConfigError } from '../platform/errors.js';
import { DOCUMENT_REFRESH_DAYS } from './documents.js';

export interface Retention {
  batchDays: number;
  documentDays: number;
}

/**
 * The bucket's lifecycle rules, as `put-bucket-lifecycle-configuration` takes them: S3 itself ends what
 * nobody needs any more. A new batch finds each of its documents at most `DOCUMENT_REFRESH_DAYS` old,
 * so documents that live that much longer than batches outlive every batch that refers to them.
 * @throws ConfigError when documents could go before a batch that needs them.
 */
export function lifecycleRules(
  { s3Prefix }: Pick<Config, 's3Prefix'>,
  { batchDays, documentDays }: Retention,
): object {
  if (batchDays < 1) throw new ConfigError(`batches must stay for at least one day, not ${batchDays}`);
  // S3 counts whole days from the midnight after: one more for that.
  const least = batchDays + DOCUMENT_REFRESH_DAYS + 1;
  if (documentDays < least) {
    throw new ConfigError(
      `documents must stay for at least ${least} days when batches stay for ${batchDays}, not ${documentDays}: a batch could lose its documents`,
    );
  }
  const prefix = s3Prefix === '' ? '' : `${s3Prefix}/`;
  const expire = (folder: string, Days: number) => ({
    ID: `longhaul-${folder.replace('/', '-')}`,
    Status: 'Enabled',
    Filter: { Prefix: `${prefix}${folder}/` },
    Expiration: { Days },
  });
  return {
    Rules: [
      expire('batches', batchDays),
      expire('dead', batchDays),
      expire('idempotency', batchDays),
      expire('documents', documentDays),
      expire('gateway/content', batchDays),
      expire('gateway/files', batchDays),
      expire('gateway/batches', batchDays),
      expire('gateway/failures', batchDays),
      expire('gateway/claims', batchDays),
      expire('probe', 1),
      {
        ID: 'longhaul-uploads',
        Status: 'Enabled',
        Filter: { Prefix: prefix },
        AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
      },
    ],
  };
}
