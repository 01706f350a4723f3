import { currentContext, outsideAttempt } from './attempt-context.js';
import type { Scope } from './savepoint-stack.js';

interface Callback {
  readonly fn: () => unknown;
  /** The transaction it was registered in, with those around it. */
  readonly scope: Scope | undefined;
}

/** What is to run when an attempt's outcome is committed. */
export class AfterCommit {
  #callbacks: Callback[] = [];

  add(fn: () => unknown): void {
    if (typeof fn !== 'function') throw new TypeError('afterCommit() takes a function');
    this.#callbacks.push({ fn, scope: currentContext()?.scope });
  }

  /** Forgets everything: the handler is run again, or its work was rolled back. */
  clear(): void {
    this.#callbacks = [];
  }

  /** Runs what was registered, in order, outside the attempt. An error of one does not keep the others from running. */
  async run(report: (error: unknown) => void): Promise<void> {
    if (this.#callbacks.length === 0) return;
    const callbacks = this.#callbacks.filter(({ scope }) => !wasRolledBack(scope));
    this.clear();
    await outsideAttempt(async () => {
      for (const { fn } of callbacks) {
        try {
          await fn();
        } catch (error) {
          report(error);
        }
      }
    });
  }
}

function wasRolledBack(scope: Scope | undefined): boolean {
  for (let at = scope; at; at = at.parent) if (at.rolledBack) return true;
  return false;
}
