/** Why a leader does not claim: it may while no reason is left. */
export type Reason = 'cohort' | 'uncommitted' | 'backoff' | 'drain';

export class Gate {
  private readonly reasons = new Set<Reason>(['cohort']);

  constructor(private readonly onChange: (open: boolean) => void) {}

  get isOpen(): boolean {
    return this.reasons.size === 0;
  }

  get closedBy(): Reason[] {
    return [...this.reasons];
  }

  set(reason: Reason, closed: boolean): void {
    const before = this.isOpen;
    if (closed) this.reasons.add(reason);
    else this.reasons.delete(reason);
    if (this.isOpen !== before) this.onChange(this.isOpen);
  }
}
