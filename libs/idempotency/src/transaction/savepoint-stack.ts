import { InterleavedTransactionError } from './attempt-settled.error.js';

/**
 * One open transaction of the handler: the attempt's own (the root), or a nested one, which is a savepoint.
 *
 * - `'callback'`: `dataSource.transaction(async (manager) => …)`. Its code runs in an async context of its own, so that
 *   statements are known to belong to it.
 * - `'explicit'`: `queryRunner.startTransaction()`. Statements of repositories issued meanwhile cannot be told from it.
 */
export interface Scope {
  readonly kind: 'root' | 'callback' | 'explicit';
  readonly parent: Scope | undefined;
  /** Statements that may write and were issued from elsewhere while this scope was on top. */
  foreignWrites: number;
  /** It is over, and what happened in it did not. */
  rolledBack: boolean;
}

/** Who asks to send a statement. */
export interface Admission {
  readonly scope: Scope;
  readonly own: boolean;
  readonly mayWrite: boolean;
}

/**
 * Keeps the nested transactions of one attempt in the only order a connection knows: the last one opened ends first.
 *
 * Handlers run things in parallel (`Promise.all`). Savepoints of parallel nested transactions would release each
 * other, and a rollback of one would take the other's rows along; so a statement waits until its own scope is on top.
 */
export class SavepointStack {
  readonly root: Scope = { kind: 'root', parent: undefined, foreignWrites: 0, rolledBack: false };
  #top: Scope = this.root;
  readonly #waiting = new Set<() => void>();
  /** Set when a rollback undid statements of code that was told they had succeeded. */
  poisonedBy: InterleavedTransactionError | undefined;

  constructor(private readonly waitMs: number) {}

  get isNested(): boolean {
    return this.#top !== this.root;
  }

  /**
   * Sends a statement of `scope` as soon as it may go. Admission and sending are one step: between them another
   * transaction could open its savepoint around the statement.
   *
   * @param own the scope was opened by the very query runner that asks. Then the statement belongs to it and to no
   *   scope opened above it.
   * @throws {InterleavedTransactionError} when that does not happen within the wait limit.
   */
  run<T>({ scope, own, mayWrite }: Admission, send: () => Promise<T>): Promise<T> {
    // Nothing is nested, as nearly always.
    if (this.#top === scope) return send();
    return this.#when(
      () => this.#admits(scope, own),
      () => {
        if (!own && mayWrite) this.#countForeign(this.#open(scope));
        return send();
      },
    );
  }

  /** Opens a scope on top of `scope`, waiting for its turn. */
  push(scope: Scope, own: boolean, kind: 'callback' | 'explicit'): Promise<Scope> {
    return this.#when(
      () => this.#admits(scope, own),
      () => {
        const opened: Scope = { kind, parent: this.#top, foreignWrites: 0, rolledBack: false };
        this.#top = opened;
        return Promise.resolve(opened);
      },
    );
  }

  /** Waits until `scope` is on top, so that it may end. */
  beforeEnd(scope: Scope): Promise<void> {
    return this.#when(
      () => this.#top === scope,
      () => Promise.resolve(),
    );
  }

  /** Takes `scope` off; with `rolledBack` its foreign statements are gone, which their issuers do not know. */
  pop(scope: Scope, rolledBack: boolean): void {
    if (this.#top !== scope) return;
    scope.rolledBack = rolledBack;
    this.#top = scope.parent ?? this.root;
    if (rolledBack && scope.foreignWrites > 0) {
      this.poisonedBy ??= new InterleavedTransactionError(
        `queryRunner.rollbackTransaction() undid ${scope.foreignWrites} statement(s) that other code had issued ` +
          'meanwhile. Use dataSource.transaction(async (manager) => …) in parallel code: it keeps them apart.',
      );
    } else if (!rolledBack && scope.parent && scope.kind === 'explicit') {
      scope.parent.foreignWrites += scope.parent.kind === 'explicit' ? scope.foreignWrites : 0;
    }
    // A snapshot: each waiter looks for itself, and the first to go may close the way for the others again.
    for (const wake of Array.from(this.#waiting)) wake();
  }

  #admits(scope: Scope, own: boolean): boolean {
    if (this.#top === this.#open(scope)) return true;
    if (own) return false;
    // Explicit scopes above ours: code between startTransaction() and commitTransaction() that uses a repository
    // cannot be told apart, and must not wait for itself.
    for (let at: Scope | undefined = this.#top; at; at = at.parent) {
      if (at === this.#open(scope)) return true;
      if (at.kind !== 'explicit') return false;
    }
    return false;
  }

  /** `scope`, or the innermost of its parents that is still open when it has ended. */
  #open(scope: Scope): Scope {
    const open = new Set<Scope>();
    for (let at: Scope | undefined = this.#top; at; at = at.parent) open.add(at);
    let at: Scope = scope;
    while (!open.has(at)) at = at.parent ?? this.root;
    return at;
  }

  #countForeign(upTo: Scope): void {
    for (let at = this.#top; at !== upTo && at.parent; at = at.parent) at.foreignWrites++;
  }

  #when<T>(condition: () => boolean, act: () => Promise<T>): Promise<T> {
    if (condition()) return act();
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(check);
        reject(
          new InterleavedTransactionError(
            `A statement waited ${this.waitMs} ms for a nested transaction opened beside it to end. A handler shares ` +
              'one connection: commit or roll back the inner transaction before using the outer one again.',
          ),
        );
      }, this.waitMs);
      const check = (): void => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#waiting.delete(check);
        try {
          resolve(act());
        } catch (error) {
          // Its own caller's error: whoever ended the transaction, and those that wait behind, have no part in it.
          reject(error);
        }
      };
      this.#waiting.add(check);
    });
  }
}
