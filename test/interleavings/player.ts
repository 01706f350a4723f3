import type { Client } from 'pg';
import type { AdminStore } from '../../libs/idempotency/src/store/admin.store.js';
import type { IdempotencyStore } from '../../libs/idempotency/src/store/idempotency.store.js';
import type { LeaseStore } from '../../libs/idempotency/src/store/lease.store.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { isTransactionConflict, sqlStateOf } from '../../libs/idempotency/src/store/sql-state.js';
import type { Actor } from './actor.js';
import type { Connection, Ground } from './ground.js';
import { type Grain, SteppedSession } from './stepped-session.js';
import { SETTINGS, type Subject } from './subject.js';

/** The hands of an actor: the library's stores, on a connection of its own. */
export class Player {
  readonly records: IdempotencyStore;
  readonly leases: LeaseStore;
  readonly admin: AdminStore;
  readonly #open = new Set<Session>();

  constructor(
    readonly actor: Actor,
    readonly subject: Subject,
    readonly ground: Ground,
    private readonly connection: Connection,
    readonly grain: Grain,
  ) {
    const seat = ground.seat(actor.name);
    seat.open = () => this.open();
    this.records = seat.records;
    this.leases = seat.leases;
    this.admin = seat.admin;
  }

  get name(): string {
    return this.actor.name;
  }

  get pid(): number {
    return this.connection.pid;
  }

  /** A session on this one's connection, as the pool gives one out. */
  open(): Session {
    const session: Session = this.sessionOn(this.connection.client, () => this.#open.delete(session));
    this.#open.add(session);
    return session;
  }

  protected sessionOn(client: Client, giveBack: () => void): Session {
    return new SteppedSession(client, giveBack, this);
  }

  /**
   * The handler's effect, in the attempt's transaction. There is no unique key in its way. Nobody else can see it before the commit, so
   * that it need not have a turn of its own.
   */
  async charge(session: Session, effect: 'a-turn' | 'aside' = 'aside'): Promise<void> {
    const values = [this.subject.key, this.name];
    const statement = { text: `INSERT INTO ${this.ground.ledger} (key, by) VALUES ($1, $2)`, values };
    if (effect === 'aside' && session instanceof SteppedSession) await session.aside(statement);
    else await session.query(statement);
  }

  /** The process of a session is gone, and with it its connection. */
  async kill(name: string): Promise<void> {
    await this.actor.turn();
    await this.ground.terminate(name);
  }

  /** Sends a fenced write of lease mode until it is answered, as its engine does. */
  async untilAnswered<T>(write: (session: Session) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const session = this.open();
      try {
        return await write(session);
      } catch (error) {
        if (!isTransactionConflict(error) || tries === 5) throw error;
      } finally {
        session.release();
      }
    }
  }

  /** What a script comes to, its errors among it, when all that it has opened is given back. */
  async perform(script: (self: Player) => Promise<string>): Promise<string> {
    let result: string;
    try {
      result = await script(this);
    } catch (error) {
      result = this.connection.isEnded ? 'lost' : `failed ${sqlStateOf(error) ?? String(error)}`;
    }
    for (const session of this.#open) await session.rollbackAndRelease(SETTINGS.acquireTimeoutMs);
    return result;
  }
}
