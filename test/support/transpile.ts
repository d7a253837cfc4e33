import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = resolve(fileURLToPath(new URL('../..', import.meta.url)));

/**
 * JavaScript that plain `node` runs, for one TypeScript source file and all it imports: tests start
 * processes from the sources as they are now, not from a `dist` that may be old. Types are not
 * checked. The result lies under build/, keyed by content, and is shared by all who ask.
 */
export function runnable(source: string): string {
  const entry = resolve(root, source);
  const files = new Map<string, string>();
  const visit = (file: string): void => {
    if (files.has(file)) return;
    const text = readFileSync(file, 'utf8');
    files.set(file, text);
    for (const { fileName } of ts.preProcessFile(text).importedFiles) {
      if (fileName.startsWith('.')) visit(resolve(dirname(file), fileName.replace(/\.js$/, '.ts')));
    }
  };
  visit(entry);

  const hash = createHash('sha256');
  for (const [file, text] of [...files].sort()) hash.update(`${relative(root, file)}\0${text}\0`);
  const target = join(root, 'build', 'test-js', hash.digest('hex').slice(0, 24));
  const output = (base: string, file: string): string =>
    join(base, relative(root, file).replace(/\.ts$/, '.js'));
  if (!existsSync(target)) {
    const building = `${target}.${process.pid}`;
    for (const [file, text] of files) {
      const path = output(building, file);
      mkdirSync(dirname(path), { recursive: true });
      const { outputText } = ts.transpileModule(text, {
        fileName: file,
        compilerOptions: {
          target: ts.ScriptTarget.ES2023,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
          inlineSourceMap: true,
        },
      });
      writeFileSync(path, outputText);
    }
    try {
      renameSync(building, target);
    } catch (error) {
      // Another test process was first with the same content.
      rmSync(building, { recursive: true, force: true });
      if (!existsSync(target)) throw error;
    }
  }
  return output(target, entry);
}
