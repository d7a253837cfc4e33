/** A digest of a folder every morning, and one now: node nightly.js FOLDER QUESTION.txt */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { GetObjectCommand, HeadObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';

const NAME = 'nightly';
const [folder, questionFile] = process.argv.slice(2);
if (folder === undefined || questionFile === undefined) {
  console.error('usage: node nightly.js FOLDER QUESTION.txt');
  process.exit(64);
}

// Where `local up` has its S3, or the LONGHAUL_ variables that lead to yours.
const file = '.longhaul/local.json';
const local = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
const setting = (variable, name) => process.env[`LONGHAUL_${variable}`] ?? local[name];
const accessKeyId = setting('S3_ACCESS_KEY_ID', 's3AccessKeyId');
const secretAccessKey = setting('S3_SECRET_ACCESS_KEY', 's3SecretAccessKey');
const s3 = new S3Client({
  endpoint: setting('S3_ENDPOINT', 's3Endpoint'),
  region: setting('S3_REGION', 's3Region') ?? 'us-east-1',
  forcePathStyle: String(setting('S3_PATH_STYLE', 's3PathStyle')) === 'true',
  // Without these, the usual AWS ways.
  credentials: accessKeyId === undefined ? undefined : { accessKeyId, secretAccessKey },
});
const Bucket = setting('S3_BUCKET', 's3Bucket') ?? 'longhaul';
const longhaul = async (...args) => {
  const script = fileURLToPath(new URL('bin/longhaul.js', import.meta.resolve('longhaul/package.json')));
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args, '--json']);
  return JSON.parse(stdout);
};

try {
  // Only what is new or changed: writing a file again would make a run take it again.
  for (const name of (await readdir(folder)).filter((name) => /\.(txt|md|html)$/.test(name))) {
    const Body = await readFile(join(folder, name));
    const object = { Bucket, Key: `inputs/${name}` };
    const md5 = createHash('md5').update(Body).digest('hex');
    const there = await s3.send(new HeadObjectCommand(object)).catch((error) => {
      if (error.$metadata?.httpStatusCode !== 404) throw error;
    });
    if (there?.ETag !== `"${md5}"`) await s3.send(new PutObjectCommand({ ...object, Body }));
  }

  if (!(await longhaul('schedule', 'list')).some(({ name }) => name === NAME)) {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    const when = ['--cron', '0 6 * * *', '--tz', timeZone];
    const what = ['--input', `s3://${Bucket}/inputs/`, '--prompt', questionFile];
    await longhaul('schedule', 'add', NAME, ...when, ...what);
  }

  const { run } = await longhaul('schedule', 'run-now', NAME);
  console.error(`run ${run}`);
  let end = null;
  while (end === null) {
    await sleep(1000);
    const runs = await longhaul('schedule', 'history', NAME);
    end = runs.find((one) => one.run === run)?.end ?? null;
  }
  if (end.error !== null) console.error(`${end.error.message} [${end.error.code}]`);
  if (end.digest !== null) {
    const [, bucket, key] = /^s3:\/\/([^/]+)\/(.*)$/.exec(end.digest.markdown);
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    process.stdout.write(await Body.transformToString());
  }
  if (end.status !== 'succeeded') process.exitCode = 2;
} finally {
  s3.destroy();
}
