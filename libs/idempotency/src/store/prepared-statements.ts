import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';
import { sqlStateOf } from './sql-state.js';

/** One column of a statement's answer: its name, and how its text is read. */
export interface Column {
  readonly name: string;
  readonly parse: (text: string) => unknown;
}

/** A statement as one connection knows it. */
export interface PreparedStatement {
  readonly name: string;
  /**
   * - `unknown`: the server may know the name, or not: it is given up and prepared anew.
   * - `ready`: the server has said that it knows it.
   */
  state: 'new' | 'unknown' | 'ready';
  /** Since it was prepared. */
  executions: number;
  /** Of its answer, once they were told; none for a statement without rows. */
  columns: readonly Column[] | undefined;
}

/**
 * After how many executions on a connection a statement is prepared anew. PostgreSQL settles on one plan after five. A plan made while the
 * table was nearly empty reads all of it, and would be kept until autovacuum looks at the table, a minute or more, while
 * it grows by thousands of records a second.
 */
const PREPARED_ANEW_AFTER = 500;

/** No statement of that name, or one already: somebody between us and the server hands its connections around. */
const NOT_KEPT: readonly (string | undefined)[] = ['26000', '42P05'];

/** Whether `error` says that prepared statements are not kept, where they were thought to be. Its transaction has failed. */
export function isNotKept(error: unknown): boolean {
  return NOT_KEPT.includes(sqlStateOf(error));
}

/** Names are of this copy of the library: two of them may share a pool. */
const NAME = `nestjs_pg_idempotency_${randomBytes(4).toString('hex')}`;

/**
 * Which statements the connections of a pool have prepared. Off until it is known that a connection leads to one and the same backend:
 * behind a pooler of transactions a statement stays with a backend that the next transaction may not get.
 */
export class PreparedStatements {
  #isOn = false;
  #isGivenUp = false;
  readonly #names = new Map<string, string>();
  #connections = new WeakMap<Client, Map<string, PreparedStatement>>();

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Not once it was given up, however the server looks. */
  turnOn(): void {
    this.#isOn = !this.#isGivenUp;
  }

  /** The statement on that connection; `undefined`: it is not to be prepared. */
  of(client: Client, text: string): PreparedStatement | undefined {
    if (!this.#isOn) return undefined;
    let statements = this.#connections.get(client);
    if (!statements) this.#connections.set(client, (statements = new Map()));
    let statement = statements.get(text);
    if (!statement) {
      statement = { name: this.#nameOf(text), state: 'new', executions: 0, columns: undefined };
      statements.set(text, statement);
    }
    if (statement.executions >= PREPARED_ANEW_AFTER) statement.state = 'unknown';
    return statement;
  }

  /** Looks at what a batch has failed with. When it says that statements are not kept, none is prepared from then on. */
  observe(error: unknown): void {
    if (!isNotKept(error)) return;
    this.#isGivenUp = true;
    this.#isOn = false;
    this.#connections = new WeakMap();
  }

  #nameOf(text: string): string {
    let name = this.#names.get(text);
    if (name === undefined) this.#names.set(text, (name = `${NAME}_${this.#names.size}`));
    return name;
  }
}
