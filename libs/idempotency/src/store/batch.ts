import type { Client } from 'pg';
import { serialize } from 'pg-protocol';
import type { Column, PreparedStatement, PreparedStatements } from './prepared-statements.js';
import type { Statement } from './session.js';

/** What one statement of a batch came to. */
export interface BatchAnswer {
  /** As the server names it: `INSERT`, `SELECT`, `COMMIT`. */
  readonly command: string;
  readonly rowCount: number;
  readonly rows: readonly Record<string, unknown>[];
}

export interface BatchOptions {
  readonly prepared?: PreparedStatements | undefined;
  /** Called when all statements but the last are on their way, and when the last one is: for tests, to stop there. */
  readonly onSent?: ((what: 'record' | 'commit') => void) | undefined;
}

/**
 * Sends statements as one message to the server, ended by one Sync: one round trip for all of them, with `pipeline` on the pool and
 * without. The server carries them out in their order and skips what comes behind one that fails, COMMIT included.
 *
 * A subclass of node-postgres' own query, because a pipelining client takes no other. It does without most of what a query object
 * does: no promise, result and description of columns for each statement.
 *
 * @throws the error of the first statement that failed, or of the connection.
 */
export function sendBatch(
  client: Client,
  statements: readonly Statement[],
  options: BatchOptions,
): Promise<readonly BatchAnswer[]> {
  const Batch = batchClassOf(client);
  return new Promise((resolve, reject) => {
    const batch = new Batch(client, statements, options);
    batch.callback = (error, answers) => (answers ? resolve(answers) : reject(error));
    // Typed for queries of node-postgres' own making.
    (client as unknown as { query(batch: unknown): void }).query(batch);
  });
}

/** The part of node-postgres' connection that a query writes to. */
interface Wire {
  readonly stream: { readonly writable: boolean; write(bytes: Buffer): void };
}

type Callback = (error: unknown, answers?: readonly BatchAnswer[]) => void;
type QueryClass = new (text: string) => object;
type BatchClass = new (
  client: Client,
  statements: readonly Statement[],
  options: BatchOptions,
) => { callback: Callback };

const classes = new WeakMap<QueryClass, BatchClass>();

function batchClassOf(client: Client): BatchClass {
  const { Query: base } = client.constructor as unknown as { Query: QueryClass };
  let found = classes.get(base);
  if (!found) classes.set(base, (found = makeBatchClass(base)));
  return found;
}

interface Sent {
  readonly prepared: PreparedStatement | undefined;
  /** It was prepared with this batch. */
  readonly isParsed: boolean;
  /** Its columns were asked for with this batch. */
  readonly isDescribed: boolean;
}

function makeBatchClass(base: QueryClass): BatchClass {
  return class Batch extends base {
    callback!: Callback;
    readonly #client: Client;
    readonly #statements: readonly Statement[];
    readonly #options: BatchOptions;
    readonly #sent: Sent[] = [];
    readonly #answers: BatchAnswer[] = [];
    #columns: readonly Column[] | undefined;
    #rows: Record<string, unknown>[] = [];
    #unreadable: { readonly error: unknown } | undefined;

    constructor(client: Client, statements: readonly Statement[], options: BatchOptions) {
      super('');
      this.#client = client;
      this.#statements = statements;
      this.#options = options;
    }

    submit(wire: Wire): void {
      const { onSent } = this.#options;
      const last = this.#statements.length - 1;
      const messages: Buffer[] = [];
      for (const [index, statement] of this.#statements.entries()) {
        if (index === last && onSent) {
          write(wire, messages.splice(0));
          onSent('record');
        }
        this.#add(messages, statement);
      }
      messages.push(serialize.sync());
      write(wire, messages);
      onSent?.('commit');
    }

    #add(messages: Buffer[], { text, values = [] }: Statement): void {
      const prepared = this.#options.prepared?.of(this.#client, text);
      const isParsed = prepared?.state !== 'ready';
      if (isParsed) {
        // Closing a name that the server does not know is no error; preparing one that it knows is.
        if (prepared?.state === 'unknown') messages.push(serialize.close({ type: 'S', name: prepared.name }));
        messages.push(serialize.parse({ name: prepared?.name ?? '', text }));
      }
      if (prepared) {
        if (isParsed) {
          prepared.state = 'unknown';
          prepared.executions = 0;
        }
        prepared.executions++;
      }
      messages.push(serialize.bind({ statement: prepared?.name ?? '', values: values.map(parameter) }));
      const isDescribed = prepared?.columns === undefined;
      if (isDescribed) messages.push(serialize.describe({ type: 'P' }));
      messages.push(serialize.execute());
      this.#sent.push({ prepared, isParsed, isDescribed });
    }

    handleRowDescription({ fields }: { fields: readonly { name: string; dataTypeID: number }[] }): void {
      this.#columns = fields.map(({ name, dataTypeID }) => ({
        name,
        parse: this.#client.getTypeParser(dataTypeID, 'text') as (text: string) => unknown,
      }));
    }

    handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
      const columns = this.#columns ?? this.#sent[this.#answers.length]?.prepared?.columns ?? [];
      const row: Record<string, unknown> = {};
      try {
        for (const [index, { name, parse }] of columns.entries()) {
          const text = fields[index];
          row[name] = text === null || text === undefined ? null : parse(text);
        }
      } catch (error) {
        // Nothing may be thrown into the reader of the connection.
        this.#unreadable ??= { error };
      }
      this.#rows.push(row);
    }

    handleCommandComplete({ text }: { text: string }): void {
      const [command = ''] = text.split(' ', 1);
      const rowCount = Number(text.slice(text.lastIndexOf(' ') + 1)) || 0;
      const sent = this.#sent[this.#answers.length];
      if (sent) this.#confirm(sent);
      this.#answers.push({ command, rowCount, rows: this.#rows });
      this.#columns = undefined;
      this.#rows = [];
    }

    /** The server has carried it out: it knows the statement by its name. */
    #confirm({ prepared, isParsed, isDescribed }: Sent): void {
      if (!prepared) return;
      if (isParsed) prepared.state = 'ready';
      if (isDescribed) prepared.columns = this.#columns ?? [];
    }

    handleError(error: unknown): void {
      this.callback(error);
    }

    handleReadyForQuery(): void {
      if (this.#unreadable) this.callback(this.#unreadable.error);
      else this.callback(undefined, this.#answers);
    }
  };
}

/** In one piece: what is written piece by piece costs node-postgres' stream, and the system, as much for each. */
function write({ stream }: Wire, messages: readonly Buffer[]): void {
  if (stream.writable) stream.write(Buffer.concat(messages));
}

/** As the server takes it: bytes as they are, everything else as text. */
function parameter(value: unknown): unknown {
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : value;
}
