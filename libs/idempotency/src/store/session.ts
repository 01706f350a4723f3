import type { Client, QueryResult, QueryResultRow } from 'pg';
import { ConnectionLostError } from './connection-lost.error.js';
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
}

/** Checks a connection out, at most for `timeoutMs`; one that arrives later goes straight back. */
export async function openSession(source: ConnectionSource, timeoutMs: number): Promise<Session> {
  let late = false;
  const connecting = source.connect();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      late = true;
      reject(new ConnectionLostError(`no connection of the pool was free within ${timeoutMs} ms`));
    }, timeoutMs);
  });
  void connecting.then(
    ({ release }) => late && release(),
    () => undefined,
  );
  try {
    const { client, release } = await Promise.race([connecting, timeout]);
    return new Session(client, release);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A checked-out connection that goes back to the pool exactly once: healthy through {@link release}, destroyed through
 * {@link destroy}. While it is checked out the pool does not listen for its errors, so that this class does; an error
 * on a connection nobody listens to would end the process.
 */
export class Session {
  /** Settles when the connection is lost; never while it is healthy. */
  readonly lost: Promise<Error>;
  #lostWith: Error | undefined;
  #reportLost!: (error: Error) => void;
  #ended = false;
  /** Tail of the statements sent one after another when the connection does not pipeline. */
  #tail: Promise<unknown> = Promise.resolve();
  #outstanding = 0;
  #queued = 0;
  #unreplicated = 0;
  #isMisplaced = false;
  readonly #onNotice = (notice: { readonly routine?: string | undefined }): void => {
    if (isUnreplicatedWarning(notice)) this.#unreplicated++;
  };
  readonly #onError = (error: Error): void => this.#lose(error);
  readonly #onEnd = (): void => this.#lose(new ConnectionLostError('the server closed the connection'));

  constructor(
    readonly client: Client,
    private readonly giveBack: (error?: Error) => void,
  ) {
    this.lost = new Promise((resolve) => (this.#reportLost = resolve));
    client.on('error', this.#onError);
    client.on('end', this.#onEnd);
    client.on('notice', this.#onNotice);
  }

  /** Whether statements go out without waiting for the answer of the one before (`pipeline: true` on the pool). */
  get pipelined(): boolean {
    return (this.client as { pipeline?: boolean }).pipeline === true;
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

  /** The same for a call of the client that is not plain text and parameters. */
  run<T>(call: (client: Client) => Promise<T>): Promise<T> {
    if (this.#lostWith) return Promise.reject(this.#lostWith);
    // Fail closed: the connection may be serving somebody else's transaction already.
    if (this.#ended) return Promise.reject(new Error('the session has given its connection back'));
    const send = async (): Promise<T> => {
      this.#outstanding++;
      try {
        return await call(this.client);
      } catch (error) {
        this.#isMisplaced ||= isReadOnly(error);
        throw error;
      } finally {
        this.#outstanding--;
      }
    };
    // At once where nothing is in the way: what a caller has sent is on the wire when the call returns.
    const result =
      this.pipelined || (this.#outstanding === 0 && this.#queued === 0) ? send() : this.#enqueue(send);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  async #enqueue<T>(send: () => Promise<T>): Promise<T> {
    this.#queued++;
    await this.#tail;
    this.#queued--;
    return send();
  }

  /**
   * Gives up on `work` after `timeoutMs`: the connection is destroyed, because what it would still answer belongs to
   * nobody any more.
   */
  async within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new ConnectionLostError(`PostgreSQL did not answer within ${timeoutMs} ms`);
        this.destroy(error);
        reject(error);
      }, timeoutMs);
    });
    try {
      return await Promise.race([work, deadline]);
    } finally {
      clearTimeout(timer);
    }
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
    this.#reportLost(error);
  }

  #finish(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    // The pool attaches its own listener inside the call: at no moment is there none.
    this.giveBack(error);
    this.client.off('error', this.#onError);
    this.client.off('end', this.#onEnd);
    this.client.off('notice', this.#onNotice);
  }
}
