import type { Client } from 'pg';
import { describe, expect, it, vi } from 'vitest';
import { type BatchAnswer, type BatchOptions, sendBatch } from './batch.js';
import { PreparedStatements } from './prepared-statements.js';
import type { Statement } from './session.js';

/** The kinds of messages in some bytes, by the letters of the protocol. */
function kindsOf(bytes: Buffer): string {
  let kinds = '';
  for (let at = 0; at < bytes.length; at += 1 + bytes.readUInt32BE(at + 1)) {
    kinds += String.fromCharCode(bytes[at] ?? 0);
  }
  return kinds;
}

/** What node-postgres calls of a query that it was given. */
interface Submitted {
  submit(wire: object): void;
  handleRowDescription(message: object): void;
  handleDataRow(message: { fields: (string | null)[] }): void;
  handleCommandComplete(message: { text: string }): void;
  handleError(error: unknown): void;
  handleReadyForQuery(): void;
}

/** node-postgres' client, whose server is the test. */
class FakeClient {
  static Query = class {
    constructor(readonly text: string) {}
  };
  batch!: Submitted;
  readonly written: Buffer[] = [];
  readonly stream = { writable: true, write: (bytes: Buffer): void => void this.written.push(bytes) };

  query(batch: Submitted): void {
    this.batch = batch;
    batch.submit({ stream: this.stream });
  }
  /** Numbers come as numbers, and a type 7 cannot be read. */
  getTypeParser(type: number): (text: string) => unknown {
    if (type === 7) return () => JSON.parse('{');
    return type === 23 ? Number : String;
  }
  columns(...columns: [name: string, type: number][]): void {
    const fields = columns.map(([name, dataTypeID]) => ({ name, dataTypeID }));
    this.batch.handleRowDescription({ fields });
  }
  row(...fields: (string | null)[]): void {
    this.batch.handleDataRow({ fields });
  }
  complete(text: string): void {
    this.batch.handleCommandComplete({ text });
  }
}

function send(statements: readonly Statement[], options: BatchOptions = {}, client = new FakeClient()) {
  const answers = sendBatch(client as unknown as Client, statements, options);
  return { client, answers, kinds: client.written.splice(0).map(kindsOf) };
}
const ONE = [{ text: 'SELECT 1' }];

describe('a batch on the wire', () => {
  it('is written in one piece, and ended by one Sync', () => {
    const { kinds } = send([{ text: 'BEGIN' }, { text: 'SELECT $1', values: [1] }, { text: 'COMMIT' }]);
    // Parse, Bind, Describe and Execute for each.
    expect(kinds).toEqual(['PBDEPBDEPBDES']);
  });

  it('is written in two pieces where somebody wants to stop before the last statement', () => {
    const seen: string[] = [];
    const client = new FakeClient();
    const onSent = (what: string): void => void seen.push(what, ...client.written.map(kindsOf));
    void send([{ text: 'UPDATE' }, { text: 'COMMIT' }], { onSent }, client);
    expect(seen).toEqual(['record', 'PBDE', 'commit', 'PBDE', 'PBDES']);
  });

  it('is not written to a socket that takes nothing any more', () => {
    const client = new FakeClient();
    client.stream.writable = false;
    expect(send(ONE, {}, client).kinds).toEqual([]);
  });

  it('sends numbers and truth values as text, and bytes as they are', () => {
    const client = new FakeClient();
    void sendBatch(
      client as unknown as Client,
      [{ text: '', values: [41, true, Buffer.of(255), null, 'k'] }],
      {},
    );
    const [bytes = Buffer.alloc(0)] = client.written;
    for (const value of ['41', 'true', 'k']) {
      const text = Buffer.from(value);
      const size = Buffer.alloc(4);
      size.writeInt32BE(text.length);
      expect(bytes.includes(Buffer.concat([size, text]))).toBe(true);
    }
    expect(bytes.includes(Buffer.of(0, 0, 0, 1, 255))).toBe(true);
  });
});

describe('the answer to a batch', () => {
  it('has rows, read by their types, and a command for each statement', async () => {
    const { client, answers } = send([{ text: 'SELECT' }, { text: 'UPDATE' }, { text: 'COMMIT' }]);
    client.columns(['n', 23], ['text', 25]);
    client.row('1', 'one');
    client.row('2', null);
    client.complete('SELECT 2');
    client.complete('UPDATE 3');
    client.complete('COMMIT');
    client.batch.handleReadyForQuery();
    expect(await answers).toEqual<BatchAnswer[]>([
      {
        command: 'SELECT',
        rowCount: 2,
        rows: [
          { n: 1, text: 'one' },
          { n: 2, text: null },
        ],
      },
      { command: 'UPDATE', rowCount: 3, rows: [] },
      { command: 'COMMIT', rowCount: 0, rows: [] },
    ]);
  });

  it('has the last number of a command as its count', async () => {
    const { client, answers } = send(ONE);
    client.complete('INSERT 0 12');
    client.batch.handleReadyForQuery();
    expect(await answers).toMatchObject([{ command: 'INSERT', rowCount: 12 }]);
  });

  it('takes a value that is missing for none', async () => {
    const { client, answers } = send(ONE);
    client.columns(['n', 23], ['more', 25]);
    client.row('1');
    client.complete('SELECT 1');
    client.batch.handleReadyForQuery();
    expect(await answers).toMatchObject([{ rows: [{ n: 1, more: null }] }]);
  });

  it('fails with the error of the server', async () => {
    const { client, answers } = send(ONE);
    const error = new Error('violates');
    client.batch.handleError(error);
    await expect(answers).rejects.toBe(error);
  });

  it('fails with a value that cannot be read, and throws nothing into the reader of the connection', async () => {
    const { client, answers } = send(ONE);
    client.columns(['broken', 7]);
    expect(() => client.row('x')).not.toThrow();
    client.row('y');
    client.complete('SELECT 2');
    client.batch.handleReadyForQuery();
    await expect(answers).rejects.toThrow(SyntaxError);
  });
});

describe('a statement that is prepared', () => {
  function prepared() {
    const statements = new PreparedStatements();
    statements.turnOn();
    const client = new FakeClient();
    const again = (): { kinds: string[]; answers: Promise<readonly BatchAnswer[]> } =>
      send(ONE, { prepared: statements }, client);
    const answer = (columns = true): void => {
      if (columns) client.columns(['n', 23]);
      client.row('1');
      client.complete('SELECT 1');
      client.batch.handleReadyForQuery();
    };
    const known = () => statements.of(client as unknown as Client, 'SELECT 1');
    return { again, answer, known, client };
  }

  it('is parsed and described once, and then only executed', async () => {
    const { again, answer, known } = prepared();
    expect(again().kinds).toEqual(['PBDES']);
    answer();
    expect(known()).toMatchObject({ state: 'ready', executions: 1, columns: [{ name: 'n' }] });
    const second = again();
    expect(second.kinds).toEqual(['BES']);
    answer(false);
    expect(await second.answers).toEqual([{ command: 'SELECT', rowCount: 1, rows: [{ n: 1 }] }]);
    expect(known()?.executions).toBe(2);
  });

  it('is not taken for known before the server has carried it out', () => {
    const { again, known } = prepared();
    again();
    expect(known()).toMatchObject({ state: 'unknown', columns: undefined });
    // Its name is given up first: the server may know it.
    expect(again().kinds).toEqual(['CPBDES']);
  });

  it('counts anew when it is prepared anew, and keeps its columns', () => {
    const { again, answer, known } = prepared();
    again();
    answer();
    Object.assign(known() ?? {}, { executions: 500 });
    expect(again().kinds).toEqual(['CPBES']);
    answer(false);
    expect(known()).toMatchObject({ state: 'ready', executions: 1, columns: [{ name: 'n' }] });
  });

  it('that has no rows has no columns', () => {
    const { again, known, client } = prepared();
    again();
    client.complete('UPDATE 1');
    expect(known()?.columns).toEqual([]);
  });

  it('is of the class that its client makes its queries of', () => {
    const made = vi.fn();
    class OtherClient extends FakeClient {
      static override Query = class extends FakeClient.Query {
        constructor(text: string) {
          super(text);
          made(text);
        }
      };
    }
    const client = new OtherClient();
    void send(ONE, {}, client);
    void send(ONE, {}, client);
    expect(made).toHaveBeenCalledTimes(2);
    expect(client.batch).toBeInstanceOf(OtherClient.Query);
  });
});
