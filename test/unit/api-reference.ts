/** docs/api.md, from the entry points of src/library and the docstrings of what they export. */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import ts from 'typescript';

const ENTRIES = { longhaul: 'index', 'longhaul/contracts': 'contracts', 'longhaul/errors': 'errors' };

export function apiReference(): string {
  const parts = Object.entries(ENTRIES).map(([name, file]) => {
    const source = parse(`src/library/${file}.ts`);
    return `## ${name}\n\n${moduleDoc(source)}\n\n${exportsOf(source).map(describe).join('\n\n')}`;
  });
  return `# API for programs

Made by \`make docs\` from the entry points of the package and their docstrings. Types come with it; what else lies in the package may
change at any time. The model's directory must be here for its tokenizer; ranks and aggregators run where you run them.

${parts.join('\n\n')}
`;
}

type Exported = ts.Statement & { name?: ts.Node };

/** In the order of the entry point; what it exports is declared there or in the file that it names. */
function exportsOf(source: ts.SourceFile): Exported[] {
  return source.statements.flatMap((statement): Exported[] => {
    if (!ts.isExportDeclaration(statement)) return isExported(statement) ? [statement] : [];
    const { moduleSpecifier, exportClause } = statement;
    if (!moduleSpecifier || !exportClause || !ts.isNamedExports(exportClause)) return [];
    const path = (moduleSpecifier as ts.StringLiteral).text.replace(/\.js$/, '.ts');
    const from = parse(join(dirname(source.fileName), path));
    return exportClause.elements.map(({ name }) => {
      const found = from.statements.find((each) => isExported(each) && nameOf(each) === name.text);
      if (!found)
        throw new Error(`${from.fileName} declares no ${name.text}; export it from where it is declared`);
      return found;
    });
  });
}

function describe(statement: Exported): string {
  const heading = `### ${nameOf(statement)}`;
  const doc = docOf(statement);
  if (ts.isClassDeclaration(statement)) {
    const members = statement.members.filter(
      (member) => ts.isMethodDeclaration(member) && !/\bprivate\b/.test(signature(member)),
    );
    const code = members.length === 0 ? [block(signature(statement))] : [];
    const methods = members.map((member) => `${block(signature(member))}\n\n${docOf(member)}`);
    return [heading, doc, ...code, ...methods].filter(Boolean).join('\n\n');
  }
  if (nameOf(statement) === 'ERROR_CODES')
    return `${heading}\n\nThe codes of [errors by code](errors.md), as an array.`;
  const text = statement.getText().replace(/^export /, '');
  return [heading, doc, block(text)].filter(Boolean).join('\n\n');
}

/** A declaration up to its body. */
function signature(node: ts.ClassDeclaration | ts.ClassElement): string {
  const body = ts.isMethodDeclaration(node) ? node.body : undefined;
  const end = body ? body.getStart() : node.getText().indexOf('{') + node.getStart();
  const text = node.getSourceFile().text.slice(node.getStart(), end).trim();
  return unindent(text.replace(/^export /, ''));
}

/** Members of a class are written further right than what stands alone. */
const unindent = (text: string): string => text.replace(/^ {2}/gm, '');

const block = (code: string): string => `\`\`\`ts\n${code}\n\`\`\``;

function docOf(node: ts.Node): string {
  const [doc] = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc);
  if (!doc) return '';
  const text = ts.getTextOfJSDocComment(doc.comment) ?? '';
  const tags = (doc.tags ?? []).map((tag) => {
    const said = ts.getTextOfJSDocComment(tag.comment) ?? '';
    if (ts.isJSDocParameterTag(tag)) return `- \`${tag.name.getText()}\`: ${said}`;
    return ts.isJSDocThrowsTag(tag) ? `- throws ${tag.typeExpression?.getText() ?? ''}${said}` : '';
  });
  return [text, tags.filter(Boolean).join('\n')].filter(Boolean).join('\n\n');
}

/** The comment that a file begins with, without its `@module`. */
function moduleDoc(source: ts.SourceFile): string {
  const [comment = ''] = /^\/\*\*[^]*?\*\//.exec(source.text) ?? [];
  const lines = comment.slice(3, -2).replace(/^ \* ?/gm, '');
  return lines.replace('@module', '').trim();
}

function isExported(statement: ts.Statement): boolean {
  return (
    ts.canHaveModifiers(statement) &&
    (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)
  );
}

function nameOf(statement: Exported): string {
  if (ts.isVariableStatement(statement))
    return statement.declarationList.declarations[0]?.name.getText() ?? '';
  return statement.name?.getText() ?? basename(statement.getSourceFile().fileName);
}

function parse(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
}
