/** docs/errors.md and the library's list of codes, from the places in src/ that make errors with a code. */
import { readdirSync, readFileSync } from 'node:fs';
import ts from 'typescript';

const CODE = /^[A-Z][A-Z_]+$/;

let read: [code: string, sentences: string[]][] | undefined;

/** Of each code, in order, its sentences; the sources are read once. */
const errorCodes = () => (read ??= readCodes());

function readCodes(): [code: string, sentences: string[]][] {
  const found = new Map<string, Set<string>>();
  const add = (code: string, message: ts.Expression | undefined) => {
    const texts = found.get(code) ?? new Set();
    const text = message === undefined ? '' : textOf(message);
    if (text !== '') texts.add(text);
    found.set(code, texts);
  };
  const describe = (code: string, doc: string) => {
    if (doc !== '') found.get(code)?.add(doc);
  };
  for (const file of sources()) {
    const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
    const visit = (node: ts.Node): void => {
      if (ts.isNewExpression(node) || isSuper(node)) {
        const [code, message] = node.arguments ?? [];
        const named = /Error$|^super$/.test(node.expression.getText());
        if (named && code !== undefined && ts.isStringLiteral(code) && CODE.test(code.text)) {
          add(code.text, message);
          if (isSuper(node)) describe(code.text, classDoc(node));
        }
      }
      if (ts.isObjectLiteralExpression(node)) {
        const code = property(node, 'code');
        if (code !== undefined && ts.isStringLiteral(code) && CODE.test(code.text))
          add(code.text, property(node, 'message'));
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  const codes = [...found].sort(([a], [b]) => (a < b ? -1 : 1));
  return codes.map(([code, texts]) => [code, [...texts].sort()]);
}

export function errorCodeList(): string {
  return `/** Made by \`make docs\`: the codes of docs/errors.md, but for those that only the native engine makes. */
export const ERROR_CODES = [
${errorCodes()
  .map(([code]) => `  '${code}',`)
  .join('\n')}
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];
`;
}

export function errorReference(): string {
  const rows = errorCodes().map(([code, texts]) => `| \`${code}\` | ${texts.map(cell).join('<br>')} |`);
  return `# Errors by code

Made by \`make docs\` from the places in \`src/\` that make them. A code is stable; the sentence names the offending value (here
in angle brackets) and the remedy. On the command line it ends the message: \`longhaul: ... [CODE]\`. In \`error.jsonl\` and in an
outcome it is \`error.code\`. Codes that begin with \`ENGINE_\` and \`COMM_\` come from the native engine too, with its own sentence:
those with \`COMM_\` say that the ranks lost each other, and the cohort forms anew. Without a sentence here, the message is that of
what lies beneath.

| code | sentences |
|---|---|
${rows.join('\n')}
`;
}

/** Without the page, and without the local S3 server, whose codes are S3's. */
function sources(): string[] {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).map((file) => `src/${file}`);
  return files
    .filter((file) => file.endsWith('.ts') && !/^src\/(dashboard\/web|local\/s3)\//.test(file))
    .sort();
}

function isSuper(node: ts.Node): node is ts.CallExpression {
  return ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.SuperKeyword;
}

/** What a class that has one code says of itself. */
function classDoc(node: ts.Node): string {
  if (!ts.isClassDeclaration(node)) return classDoc(node.parent);
  return ts
    .getJSDocCommentsAndTags(node)
    .map((doc) => ts.getTextOfJSDocComment(doc.comment) ?? '')
    .join(' ');
}

function property(node: ts.ObjectLiteralExpression, name: string): ts.Expression | undefined {
  for (const member of node.properties)
    if (ts.isPropertyAssignment(member) && member.name.getText() === name) return member.initializer;
  return undefined;
}

function textOf(node: ts.Expression): string {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node))
    return (
      node.head.text +
      node.templateSpans.map((span) => `<${lastName(span.expression)}>${span.literal.text}`).join('')
    );
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken)
    return textOf(node.left) + textOf(node.right);
  return '';
}

/** `item.document.sha256` is `sha256`: what a reader makes of it. */
function lastName(node: ts.Expression): string {
  if (ts.isIdentifier(node)) return node.text;
  if (ts.isPropertyAccessExpression(node)) return node.name.text;
  return '...';
}

function cell(text: string): string {
  return text.replace(/\s+/g, ' ').replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
