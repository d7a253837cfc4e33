/** Whether a document is plain text, Markdown or HTML: as the person says, as the server says, or by its name. */
import { posix } from 'node:path';
import type { DocumentFormat } from '../contracts/request.js';
import { SourceError } from './source-error.js';

const byExtension: Record<string, DocumentFormat> = {
  '.md': 'markdown',
  '.markdown': 'markdown',
  '.html': 'html',
  '.htm': 'html',
  '.xhtml': 'html',
};
const byType: Record<string, DocumentFormat> = {
  'text/html': 'html',
  'application/xhtml+xml': 'html',
  'text/markdown': 'markdown',
  'text/x-markdown': 'markdown',
};
/** Text by another name; `+json` and the like as well. */
const textTypes =
  /^(text\/.*|application\/((.*\+)?(json|xml|yaml)|x-yaml|jsonl|x-ndjson|x-tex|toml|sql|javascript|x-sh))$/;
/** What servers say when they do not know. */
const unknownTypes = ['application/octet-stream', 'binary/octet-stream'];

export function formatOfName(name: string): DocumentFormat {
  return byExtension[posix.extname(name.toLowerCase())] ?? 'text';
}

/**
 * Of an answer from the web.
 * @param path of the URL, whose ending says more than `text/plain` does
 * @throws SourceError for what is not text.
 */
export function formatOfAnswer(
  contentType: string | undefined,
  path: string,
  chosen: DocumentFormat | undefined,
): DocumentFormat {
  const type = contentType?.split(';')[0]?.trim().toLowerCase() ?? '';
  if (type === '' || unknownTypes.includes(type)) {
    const known =
      chosen ??
      byExtension[posix.extname(path.toLowerCase())] ??
      (/\.(txt|text)$/i.test(path) ? 'text' : undefined);
    if (known !== undefined) return known;
    const what = type === '' ? 'comes without a content type' : `is ${type}`;
    throw new SourceError(
      'DOCUMENT_TYPE_REFUSED',
      `${what}; say what it is with "format": "text", "markdown" or "html"`,
    );
  }
  if (!textTypes.test(type) && byType[type] === undefined) {
    throw new SourceError(
      'DOCUMENT_TYPE_REFUSED',
      `is ${type.slice(0, 100)}; only text, Markdown and HTML are read. Convert it first`,
    );
  }
  if (chosen !== undefined) return chosen;
  return byType[type] ?? (type === 'text/plain' ? formatOfName(path) : 'text');
}
