import { messageReader } from '../../bench/wire/messages.js';

/** One message of a client to PostgreSQL, as bytes and as what it carries out. */
export interface ClientMessage {
  readonly bytes: Buffer;
  /** The text of the statement that it is the first message of: a query, or the Bind of one, prepared earlier or not. */
  readonly statement: string | undefined;
}

/** Reads what a client sends on one connection. */
export function statementReader(): (chunk: Buffer) => ClientMessage[] {
  const texts = new Map<string, string>();
  const read = messageReader('client');
  return (chunk) =>
    read(chunk).map(({ type, bytes }) => {
      const [first = '', second = ''] = bytes.subarray(5).toString('utf8').split('\0', 2);
      if (type === 'P') texts.set(first, second);
      return { bytes, statement: type === 'Q' ? first : type === 'B' ? texts.get(second) : undefined };
    });
}
