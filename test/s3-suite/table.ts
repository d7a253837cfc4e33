/** Prints the suite as a table: one line a check, and how many passed, failed, or did not run and why. */
import type { Reporter, TestCase, TestModule } from 'vitest/node';

type Outcome = 'passed' | 'failed' | 'not run' | 'not applicable';

function outcomeOf(test: TestCase, broken: boolean): { outcome: Outcome; note: string } {
  const result = test.result();
  if (result.state === 'passed') return { outcome: 'passed', note: '' };
  if (result.state === 'failed') {
    return { outcome: 'failed', note: result.errors.map(({ message }) => message.split('\n')[0]).join('; ') };
  }
  const note = result.state === 'skipped' ? result.note : undefined;
  if (note === undefined) {
    return broken
      ? { outcome: 'failed', note: 'the set-up of its file failed' }
      : { outcome: 'not run', note: 'not asked for' };
  }
  return note.startsWith('not applicable')
    ? { outcome: 'not applicable', note: note.replace(/^not applicable: */, '') }
    : { outcome: 'not run', note };
}

export default class TableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly { message: string }[]): void {
    const counts: Record<Outcome, number> = { passed: 0, failed: 0, 'not run': 0, 'not applicable': 0 };
    const problems = unhandled.map(({ message }) => message);
    for (const module of modules) {
      const area = module.moduleId.replace(/^.*\/|\.test\.ts$/g, '');
      const errors = [module, ...module.children.allSuites()].flatMap((part) => part.errors());
      const broken = errors.length > 0;
      problems.push(...errors.map(({ message }) => message));
      for (const test of module.children.allTests()) {
        const { outcome, note } = outcomeOf(test, broken);
        counts[outcome] += 1;
        const name = `${area}: ${test.fullName}`.replace(/\s+/g, ' ').slice(0, 110);
        process.stdout.write(
          `${outcome.padEnd(15)} ${name}${note === '' ? '' : `\n${' '.repeat(16)}(${note.slice(0, 200)})`}\n`,
        );
      }
    }
    for (const problem of problems) process.stdout.write(`set-up failed: ${problem}\n`);
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    const parts = Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`);
    process.stdout.write(`\n${total} checks: ${parts.join(', ')}\n`);
  }
}
