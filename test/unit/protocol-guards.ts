/** Every guard of the reducer's source, and the reducer without it. */
import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { initialState } from '../../src/gpu-worker/protocol-types.js';
import type { Reduce } from './protocol-world.js';

export interface Guard {
  line: number;
  /** The condition, and by which constant it is replaced. */
  text: string;
  start: number;
  end: number;
  by: 'true' | 'false';
}

const path = 'src/gpu-worker/protocol.ts';
const source = readFileSync(path, 'utf8');
const file = ts.createSourceFile(path, source, ts.ScriptTarget.ES2022, true);

/** The operands of `a || b` and `a && b` each by themselves: a guard with three reasons is three guards. */
function operands(condition: ts.Expression, removed: 'true' | 'false', found: Guard[]): void {
  if (ts.isParenthesizedExpression(condition)) return operands(condition.expression, removed, found);
  if (ts.isBinaryExpression(condition)) {
    const { kind } = condition.operatorToken;
    const or = kind === ts.SyntaxKind.BarBarToken;
    if (or || kind === ts.SyntaxKind.AmpersandAmpersandToken) {
      for (const side of [condition.left, condition.right]) operands(side, or ? 'false' : 'true', found);
      return;
    }
  }
  const start = condition.getStart(file);
  const line = file.getLineAndCharacterOfPosition(start).line + 1;
  found.push({ line, text: condition.getText(file), start, end: condition.end, by: removed });
}

export function guards(): Guard[] {
  const found: Guard[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isIfStatement(node)) operands(node.expression, 'false', found);
    if (ts.isConditionalExpression(node)) {
      operands(node.condition, 'false', found);
      operands(node.condition, 'true', found);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  const names = new Set<string>();
  return found.filter(({ start, by }) => !names.has(`${start} ${by}`) && names.add(`${start} ${by}`));
}

/** The reducer with that condition always `guard.by`. */
export function without({ start, end, by }: Guard): Reduce {
  const text = `${source.slice(0, start)}(${by} as boolean)${source.slice(end)}`;
  const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  const { outputText } = ts.transpileModule(text, { compilerOptions });
  const exported: { reduce?: Reduce } = {};
  // eslint-disable-next-line @typescript-eslint/no-implied-eval -- our own source, changed in memory
  const run = new Function('exports', 'require', outputText) as (e: object, r: () => object) => void;
  run(exported, () => ({ initialState }));
  if (exported.reduce === undefined) throw new Error(`${path} exports no reduce`);
  return exported.reduce;
}
