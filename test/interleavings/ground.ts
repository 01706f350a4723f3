import { Socket } from 'node:net';
import pg from 'pg';
import { inject } from 'vitest';
import { AdminStore } from '../../libs/idempotency/src/store/admin.store.js';
import { BORN, expired } from '../../libs/idempotency/src/store/idempotency.sql.js';
import { IdempotencyStore } from '../../libs/idempotency/src/store/idempotency.store.js';
import { LeaseStore } from '../../libs/idempotency/src/store/lease.store.js';
import { migrationSql } from '../../libs/idempotency/src/store/migrations/migrator.js';
import { PreparedStatements } from '../../libs/idempotency/src/store/prepared-statements.js';
import type { Session } from '../../libs/idempotency/src/store/session.js';
import { quoteTable, stepsTable } from '../../libs/idempotency/src/store/table-name.js';
import type { TestDatabase } from '../support/database.js';
import { statementReader } from '../support/statement-reader.js';
import type { Subject } from './subject.js';

/** One connection of a session, which many interleavings use one after another. */
export interface Connection {
  readonly client: pg.Client;
  readonly pid: number;
  /** Settles when the client knows that its backend is gone. */
  readonly ended: Promise<void>;
  isEnded: boolean;
  /** The statements that went over it, read from its bytes, where the ground reads them. */
  readonly wire: string[];
}

/** The stores of a session, in all interleavings that it has a part in. */
export interface Seat {
  /** Opens a session for whoever plays just now. */
  open: () => Session;
  readonly records: IdempotencyStore;
  readonly leases: LeaseStore;
  readonly admin: AdminStore;
}

/** What everybody can see of a key at one moment. */
export interface Sight {
  readonly status: 'pending' | 'completed' | 'error' | null;
  readonly attempt: number | null;
  readonly born: string | null;
  readonly expired: boolean | null;
  readonly effects: number;
}

/** Statements that are sent in place of the library's own. */
export interface Planted {
  readonly records?: Readonly<Record<string, string>>;
  readonly leases?: Readonly<Record<string, string>>;
}

export interface GroundOptions {
  /** Told the table of the ground. */
  readonly plant?: (table: string) => Planted;
  /** Whether the statements are read from the bytes of the connections. */
  readonly readsWire?: boolean;
}

/**
 * Where interleavings take place one at a time: tables of its own, so that those at other grounds cannot come between its sessions
 * (a reaper deletes what it finds; under SERIALIZABLE a look at a small table is a look at all of it), and a connection for each of them.
 */
export class Ground {
  readonly #connections = new Map<string, Connection>();
  readonly #seats = new Map<string, Seat>();
  /** As the library has it where connections lead to one and the same backend. */
  readonly prepared = new PreparedStatements();

  private constructor(
    readonly database: TestDatabase,
    readonly table: string,
    private readonly options: GroundOptions,
  ) {
    this.prepared.turnOn();
  }

  /** @param name of its own, for its tables. */
  static async open(database: TestDatabase, name: string, options: GroundOptions = {}): Promise<Ground> {
    const table = `${name}_keys`;
    await database.pool.query(migrationSql(table));
    await database.pool.query(
      // A vacuum may wipe the trace of a dead attempt, which then is not counted: told in isolation.e2e-spec.ts, and not here.
      `ALTER TABLE ${quoteTable(table)} SET (autovacuum_enabled = off);
       CREATE TABLE ${name}_ledger (key text NOT NULL, by text NOT NULL);
       CREATE INDEX ON ${name}_ledger (key)`,
    );
    return new Ground(database, table, options);
  }

  get ledger(): string {
    return this.table.replace(/_keys$/, '_ledger');
  }

  /** The advisory lock of its reapers: one for each table, as the library has it. */
  get turnOfReapers(): string {
    return BigInt(`0x${Buffer.from(this.table).subarray(0, 7).toString('hex')}`).toString();
  }

  /** The library's stores for a session. They send what was planted in place of their own statements. */
  seat(name: string): Seat {
    let seat = this.#seats.get(name);
    if (!seat) this.#seats.set(name, (seat = this.#makeSeat()));
    return seat;
  }

  #makeSeat(): Seat {
    const connect = (): Promise<never> => Promise.reject(new Error('sessions are opened by the actor'));
    class SteppedStore extends IdempotencyStore {
      override async open(): Promise<Session> {
        return seat.open();
      }
    }
    const records = new SteppedStore(this.table, { connect }, inject('postgresVersion'));
    const seat: Seat = {
      open: () => {
        throw new Error('nobody plays here');
      },
      records,
      leases: new LeaseStore(records),
      admin: new AdminStore(records),
    };
    const planted = this.options.plant?.(this.table);
    Object.assign(records.sql, planted?.records);
    Object.assign(seat.leases.sql, planted?.leases);
    return seat;
  }

  async connection(name: string): Promise<Connection> {
    const known = this.#connections.get(name);
    if (known && !known.isEnded) return known;
    const wire: string[] = [];
    const client = new pg.Client({
      connectionString: this.database.directUrl,
      ...(this.options.readsWire ? { stream: () => tappedSocket(wire) } : {}),
    });
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    let end!: () => void;
    const connection: Connection = {
      client,
      pid: rows[0]?.pid ?? 0,
      ended: new Promise((resolve) => (end = resolve)),
      isEnded: false,
      wire,
    };
    wire.length = 0;
    client.on('end', () => {
      connection.isEnded = true;
      end();
    });
    this.#connections.set(name, connection);
    return connection;
  }

  /** Ends a session's backend without a goodbye, and waits until its end is seen: what it held is let go before. */
  async terminate(name: string): Promise<void> {
    const connection = this.#connections.get(name);
    if (!connection || connection.isEnded) return;
    await this.database.pool.query('SELECT pg_terminate_backend($1)', [connection.pid]);
    await connection.ended;
  }

  /** Which of these backends wait for a lock that another one of them has. */
  async blocked(waiting: readonly number[], among: readonly number[]): Promise<number[]> {
    const { rows } = await this.database.pool.query<{ pid: number }>({
      name: 'blocked',
      text: 'SELECT pid FROM unnest($1::int[]) AS pid WHERE pg_blocking_pids(pid) && $2::int[]',
      values: [waiting, among],
    });
    return rows.map(({ pid }) => pid);
  }

  async look({ keyHash, key }: Subject): Promise<Sight> {
    const { rows } = await this.database.pool.query<Sight>({
      name: `${this.table} look`,
      text: `SELECT status, attempt, ${BORN} AS born, ${expired('')} AS expired,
              (SELECT count(*)::int FROM ${this.ledger} WHERE key = $2) AS effects
         FROM (SELECT) AS always LEFT JOIN ${quoteTable(this.table)} ON key_hash = $1`,
      values: [keyHash, key],
    });
    const [sight] = rows;
    if (!sight) throw new Error('there is always one row');
    return sight;
  }

  /** The record is past its retention: the row is moved, not the clock. */
  async expire({ keyHash }: Subject): Promise<void> {
    await this.database.rows(
      `UPDATE ${quoteTable(this.table)}
          SET created_at = created_at - interval '2 hours', expires_at = clock_timestamp() - interval '1 hour'
        WHERE key_hash = $1`,
      [keyHash],
    );
  }

  /** Leaves nothing for the next one to find. */
  async clear({ keyHash }: Subject): Promise<void> {
    await this.database.pool.query({
      name: `${this.table} clear`,
      text: `WITH steps AS (DELETE FROM ${quoteTable(stepsTable(this.table))} WHERE key_hash = $1)
       DELETE FROM ${quoteTable(this.table)} WHERE key_hash = $1`,
      values: [keyHash],
    });
  }

  async close(): Promise<void> {
    for (const { client, isEnded } of this.#connections.values()) if (!isEnded) await client.end();
  }
}

/** A socket whose outgoing statements are noted. */
function tappedSocket(wire: string[]): Socket {
  const socket = new Socket();
  const read = statementReader();
  // Connecting puts the socket's own write back in its place.
  socket.once('connect', () => {
    const write = socket.write.bind(socket);
    socket.write = (chunk: Buffer, ...rest: never[]): boolean => {
      for (const { statement } of read(chunk)) if (statement !== undefined) wire.push(statement);
      return write(chunk, ...rest);
    };
  });
  return socket;
}
