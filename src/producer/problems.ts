import { InputError, type InputProblem } from '../platform/errors.js';

/** Listed of a bad file; the rest is only counted, so that neither memory nor the list grows with it. */
export const MAX_LISTED = 100;

/** What is wrong with an input file: the first problems by line, and how many there are. */
export class Problems {
  private kept: InputProblem[] = [];
  private count = 0;

  get total(): number {
    return this.count;
  }

  add(problem: InputProblem): void {
    this.count += 1;
    this.kept.push(problem);
    if (this.kept.length >= 2 * MAX_LISTED) this.kept = this.first();
  }

  first(): InputProblem[] {
    return [...this.kept].sort((a, b) => a.line - b.line).slice(0, MAX_LISTED);
  }

  /** @throws InputError when there is any. */
  throwIfAny(file: string): void {
    if (this.count > 0) throw new InputError(file, this.first(), this.count);
  }
}
