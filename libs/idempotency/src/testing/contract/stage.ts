import { createHash, randomUUID } from 'node:crypto';
import { keyHash } from '../../http/key-hash.js';
import type { AttemptIdentity } from '../../store/identity.js';
import { type ConnectionSource, openSession, type Session, type Statement } from '../../store/session.js';
import { type ContractSql, contractSql } from './contract-sql.js';
import { ACQUIRE_TIMEOUT_MS, type ContractStores } from './contract-stores.js';
import { Effects } from './effects.js';
import { LeaseCalls } from './lease-calls.js';
import { TransactionCalls } from './transaction-calls.js';

/** How long what is asked from outside may wait for a lock that nobody of the case holds. */
const ASK_TIMEOUT_MS = 10_000;
/** How long somebody who should be waiting by now is looked for. */
const WAITER_SEEN_MS = 1_000;

/** A record as it stands, by the database's clock. */
export interface RecordFacts {
  readonly status: string;
  readonly attempt: number;
  readonly abandoned: number;
  readonly fingerprint: Buffer;
  readonly born: string;
  readonly responseStatus: number | null;
  readonly leased: boolean | null;
  readonly leaseMs: number | null;
  readonly expiresInMs: number;
  readonly expiresAtMs: number;
}

/** What tells a request of one key from others. */
interface Subject {
  readonly key: string;
  readonly scope: string;
  readonly namespace: string;
  readonly payload: string;
}

export interface StageParts {
  readonly stores: ContractStores;
  readonly source: ConnectionSource;
  readonly table: string;
  /** Whether a connection leads to one and the same backend. */
  readonly isDirect: boolean;
}

/** What one case works with: keys of its own, both modes, and a look at the tables from outside. What it leaves is cleared away. */
export class Stage {
  readonly transactions: TransactionCalls;
  readonly leases: LeaseCalls;
  readonly effects: Effects;
  readonly namespace = `contract-${randomUUID()}`;
  readonly #sql: ContractSql;
  readonly #keyHashes = new Map<string, Buffer>();
  readonly #sessions: Session[] = [];
  /** Sessions with settings that are nobody else's. */
  readonly #altered = new Set<Session>();
  #isOver = false;

  constructor(private readonly parts: StageParts) {
    this.#sql = contractSql(parts.table);
    this.effects = new Effects(parts.table, (statement) => this.#ask(statement));
    this.transactions = new TransactionCalls(this, parts.stores.records);
    this.leases = new LeaseCalls(this, parts.stores.leases);
  }

  /** A key that nobody has used, unless it is said which. */
  identity({
    key = randomUUID(),
    scope = '',
    namespace = this.namespace,
    payload = 'a payload',
  }: Partial<Subject> = {}): AttemptIdentity {
    const hash = keyHash({ namespace, scope, key });
    this.#keyHashes.set(hash.toString('hex'), hash);
    const fingerprint = createHash('sha256').update(payload).digest();
    return { namespace, scope, key, keyHash: hash, operation: 'POST /contract', fingerprint };
  }

  /** The same key with another payload. */
  withPayload({ key, scope, namespace }: AttemptIdentity, payload: string): AttemptIdentity {
    return this.identity({ key, scope, namespace, payload });
  }

  /** A connection of the store's, until the case ends. */
  async open(store: { open(timeoutMs: number): Promise<Session> }): Promise<Session> {
    const session = await store.open(ACQUIRE_TIMEOUT_MS);
    if (this.#isOver) {
      // The case has failed while this one waited for its connection: nobody would give it back.
      const over = new Error('the case is over');
      session.destroy(over);
      throw over;
    }
    this.#sessions.push(session);
    return session;
  }

  /**
   * The same, with another isolation level as its default. Not behind a pooler, which would hand the backend on with it: there the
   * default stays what the server has.
   */
  async openAt(level: string, store: { open(timeoutMs: number): Promise<Session> }): Promise<Session> {
    const session = await this.open(store);
    if (!this.parts.isDirect) return session;
    this.#altered.add(session);
    await session.query({ text: `SET default_transaction_isolation = '${level}'` });
    return session;
  }

  /** Ends what is open on it, and gives it back; one with settings of its own is nobody else's to have. */
  async close(session: Session): Promise<void> {
    if (this.#altered.has(session)) session.destroy(new Error('its default isolation level was changed'));
    else await session.rollbackAndRelease(ACQUIRE_TIMEOUT_MS);
  }

  async record({ keyHash: hash }: AttemptIdentity): Promise<RecordFacts | undefined> {
    const [row] = await this.#ask({ text: this.#sql.RECORD, values: [hash] });
    return row as RecordFacts | undefined;
  }

  /** Another one after every write, and after a mere lock. */
  async version({ keyHash: hash }: AttemptIdentity): Promise<unknown[]> {
    const rows = await this.#ask({ text: this.#sql.VERSION, values: [hash] });
    return rows.map(({ version }) => version);
  }

  async expire({ keyHash: hash }: AttemptIdentity): Promise<void> {
    await this.#ask({ text: this.#sql.EXPIRE, values: [hash] });
  }

  /** Not yet, but soon. */
  async expireIn({ keyHash: hash }: AttemptIdentity, timeMs: number): Promise<void> {
    await this.#ask({ text: this.#sql.EXPIRE_IN, values: [hash, timeMs] });
  }

  async endLease({ keyHash: hash }: AttemptIdentity): Promise<void> {
    await this.#ask({ text: this.#sql.END_LEASE, values: [hash] });
  }

  async remove({ keyHash: hash }: AttemptIdentity): Promise<void> {
    await this.#ask({ text: this.#sql.REMOVE, values: [[hash]] });
  }

  reap(): Promise<number> {
    return this.parts.stores.reap();
  }

  /** Until somebody waits for what that session's transaction holds, as far as the server tells. */
  async untilWaitedFor(session: Session): Promise<void> {
    const { rows } = await session.query<{ pid: number }>({ text: 'SELECT pg_backend_pid() AS pid' });
    const deadline = performance.now() + WAITER_SEEN_MS;
    const isWaiting = async (): Promise<boolean> => {
      const waiting = await this.#ask({ text: this.#sql.WAITING, values: [rows[0]?.pid] });
      return waiting.length > 0;
    };
    // A server that does not say is none to fail for it: whoever comes later must find the same.
    while (performance.now() < deadline && !(await isWaiting().catch(() => true))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Ends what is open, all at once: one may be waiting for another. Then removes what the case has made. */
  async clear(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#sessions.map((session) => this.close(session)));
    await this.effects.drop();
    await this.#ask({ text: this.#sql.REMOVE, values: [[...this.#keyHashes.values()]] });
  }

  async #ask(statement: Statement): Promise<Record<string, unknown>[]> {
    const session = await openSession(this.parts.source, ACQUIRE_TIMEOUT_MS);
    try {
      const { rows } = await session.within(ASK_TIMEOUT_MS, session.query(statement));
      return rows;
    } finally {
      // Outside a transaction nothing is left open, whatever it came to.
      session.release();
    }
  }
}
