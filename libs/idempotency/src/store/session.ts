import type { Client, QueryResult, QueryResultRow } from 'pg';
import { ConnectionLostError } from './connection-lost.error.js';
import { type BatchAnswer, sendBatch } from './batch.js';
import type { PreparedStatements } from './prepared-statements.js';
import { isUnreplicatedWarning } from './unreplicated-warning.js';
import { isReadOnly } from './sql-state.js';

/** One statement with its parameters. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
}

/** What the store needs of a data source: connections of the primary. */
export interface ConnectionSource {
  /** Takes a connection out of the pool; `release(error)` destroys it, `release()` gives it back. */
  connect(): Promise<{ client: Client; release: (error?: Error) => void }>;
  /** What its connections have prepared; without it nothing is. */
  readonly prepared?: PreparedStatements;
}

/** Checks a connection out, at most for `timeoutMs`; one that arrives later goes straight back. */
export function openSession(source: ConnectionSource, timeoutMs: number): Promise<Session> {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      reject(new ConnectionLostError(`no connection of the pool was free within ${timeoutMs} ms`));
    }, timeoutMs);
    source.connect().then(
      ({ client, release }) => {
        clearTimeout(timer);
        return isLate ? release() : resolve(new Session(client, release, source.prepared));
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/**
 * A checked-out connection that goes back to the pool exactly once: healthy through {@link release}, destroyed through
 * {@link destroy}. While it is checked out the pool does not listen for its errors, so that this class does; an error
 * on a connection nobody listens to would end the process.
 */
export class Session {
  #lostWith: Error | undefined;
  #onLost: ((error: Error) => void)[] = [];
  #ended = false;
  /** Tail of the statements sent one after another when the connection does not pipeline. */
  #tail: Promise<unknown> = Promise.resolve();
  #outstanding = 0;
  #queued = 0;
  #unreplicated = 0;
  #isMisplaced = false;
  readonly #seat: Seat;
  readonly #mine: SessionListener;

  constructor(
    readonly client: Client,
    private readonly giveBack: (error?: Error) => void,
    private readonly prepared?: PreparedStatements,
  ) {
    this.#seat = seatOf(client);
    this.#mine = { onLost: (error) => this.#lose(error), onUnreplicated: () => this.#unreplicated++ };
    this.#seat.listener = this.#mine;
  }

  /** Whether statements go out without waiting for the answer of the one before (`pipeline: true` on the pool). */
  get pipelined(): boolean {
    return (this.client as { pipeline?: boolean }).pipeline === true;
  }

  /** Settles when the connection is lost; never while it is healthy. */
  get lost(): Promise<Error> {
    return new Promise((resolve) => this.whenLost(resolve));
  }

  /** Calls `listener` when the connection is lost, and at once when it is already. */
  whenLost(listener: (error: Error) => void): void {
    if (this.#lostWith) listener(this.#lostWith);
    else this.#onLost.push(listener);
  }

  get isLost(): boolean {
    return this.#lostWith !== undefined;
  }

  /** How many commits on it were answered before the synchronous standbys had them, so far. */
  get unreplicated(): number {
    return this.#unreplicated;
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  /**
   * Sends one statement. Without `pipeline` it waits for the ones before it: node-postgres deprecates a second query
   * on a busy connection.
   */
  query<Row extends QueryResultRow>({ text, values }: Statement): Promise<QueryResult<Row>> {
    return this.run((client) => client.query<Row>(text, values === undefined ? undefined : [...values]));
  }

  /**
   * Sends statements in one round trip; the first that fails keeps the others from being carried out, and the transaction open.
   *
   * @throws its error.
   */
  batch(
    statements: readonly Statement[],
    onSent?: (what: 'record' | 'commit') => void,
  ): Promise<readonly BatchAnswer[]> {
    return this.run((client) => {
      const answers = sendBatch(client, statements, { prepared: this.prepared, onSent });
      answers.catch((error: unknown) => this.prepared?.observe(error));
      return answers;
    });
  }

  /** The same for a call of the client that is not plain text and parameters. */
  run<T>(call: (client: Client) => Promise<T>): Promise<T> {
    if (this.#lostWith) return Promise.reject(this.#lostWith);
    // Fail closed: the connection may be serving somebody else's transaction already.
    if (this.#ended) return Promise.reject(new Error('the session has given its connection back'));
    // At once where nothing is in the way: what a caller has sent is on the wire when the call returns.
    const isFree = this.pipelined || (this.#outstanding === 0 && this.#queued === 0);
    const result = isFree ? this.#send(call) : this.#enqueue(call);
    if (!this.pipelined) this.#tail = result.catch(() => undefined);
    return result;
  }

  #send<T>(call: (client: Client) => Promise<T>): Promise<T> {
    this.#outstanding++;
    let answer: Promise<T>;
    try {
      answer = call(this.client);
    } catch (error) {
      // What the client does not take at all, as a query without a text.
      answer = Promise.reject(error);
    }
    return answer.then(
      (value) => {
        this.#outstanding--;
        return value;
      },
      (error: unknown) => {
        this.#outstanding--;
        this.#isMisplaced ||= isReadOnly(error);
        throw error;
      },
    );
  }

  async #enqueue<T>(call: (client: Client) => Promise<T>): Promise<T> {
    this.#queued++;
    await this.#tail;
    this.#queued--;
    return this.#send(call);
  }

  /**
   * Gives up on `work` after `timeoutMs`: the connection is destroyed, because what it would still answer belongs to
   * nobody any more.
   */
  within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const error = new ConnectionLostError(`PostgreSQL did not answer within ${timeoutMs} ms`);
        this.destroy(error);
        reject(error);
      }, timeoutMs);
      work.then(
        (value) => {
          clearTimeout(timer);
          return resolve(value);
        },
        (error: unknown) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
  }

  /**
   * Gives the healthy connection back. The caller has ended its transaction. One that leads to a standby is closed instead: after
   * a switch of roles the pool would keep it for as long as it is busy, while the address leads to the new primary.
   */
  release(): void {
    if (this.#isMisplaced) this.destroy(new ConnectionLostError('the server takes no writes'));
    else this.#finish(this.#lostWith);
  }

  /** Takes the connection out of the pool for good and closes its socket, which makes PostgreSQL roll back. */
  destroy(error: Error): void {
    if (this.#ended) return;
    this.#lose(error);
    // The socket first: an orderly goodbye would wait behind statements that may never be answered.
    (this.client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    this.#finish(error);
  }

  /** Ends whatever transaction is open, then gives the connection back, or destroys it when that fails too. */
  async rollbackAndRelease(timeoutMs: number): Promise<void> {
    if (this.#ended) return;
    try {
      await this.within(timeoutMs, this.query({ text: 'ROLLBACK' }));
      this.release();
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #lose(error: Error): void {
    if (this.#lostWith) return;
    this.#lostWith = error;
    for (const listener of this.#onLost) listener(error);
  }

  #finish(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.giveBack(error);
    // Unless it has gone on to the next one meanwhile.
    if (this.#seat.listener === this.#mine) this.#seat.listener = undefined;
  }
}

/** Who hears of a connection: the session that has it checked out. */
interface SessionListener {
  readonly onLost: (error: Error) => void;
  readonly onUnreplicated: () => void;
}

interface Seat {
  listener: SessionListener | undefined;
}

const seats = new WeakMap<Client, Seat>();

/** Listens to a connection from the first session on it, for good: to come and go with each session costs more than a query object. */
function seatOf(client: Client): Seat {
  let seat = seats.get(client);
  if (!seat) {
    const made: Seat = (seat = { listener: undefined });
    seats.set(client, made);
    client.on('error', (error) => made.listener?.onLost(error));
    client.on('end', () =>
      made.listener?.onLost(new ConnectionLostError('the server closed the connection')),
    );
    client.on('notice', (notice) => {
      if (isUnreplicatedWarning(notice)) made.listener?.onUnreplicated();
    });
  }
  return seat;
}
