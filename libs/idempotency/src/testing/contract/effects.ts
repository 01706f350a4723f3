import { randomBytes } from 'node:crypto';
import type { AttemptIdentity } from '../../store/identity.js';
import type { Session, Statement } from '../../store/session.js';
import { effectsSql } from './contract-sql.js';

/** Asks on a connection of its own. */
export type Ask = (statement: Statement) => Promise<Record<string, unknown>[]>;

/** What a handler does: rows in a table of its own, which is there for one case. */
export class Effects {
  readonly #sql: ReturnType<typeof effectsSql>;
  #isMade = false;

  constructor(
    table: string,
    private readonly ask: Ask,
  ) {
    this.#sql = effectsSql(`${table}_contract_${randomBytes(4).toString('hex')}`);
  }

  /** Before an attempt begins: the table is made outside of its transaction. */
  async prepare(): Promise<void> {
    this.#isMade = true;
    await this.ask({ text: this.#sql.CREATE });
  }

  async write(session: Session, { key }: AttemptIdentity): Promise<void> {
    await session.query({ text: this.#sql.WRITE, values: [key] });
  }

  /** How many are committed. */
  async count({ key }: AttemptIdentity): Promise<unknown> {
    const [row] = await this.ask({ text: this.#sql.COUNT, values: [key] });
    return row?.['count'];
  }

  async drop(): Promise<void> {
    if (this.#isMade) await this.ask({ text: this.#sql.DROP });
  }
}
