/** One message of PostgreSQL's protocol. */
export interface Message {
  /** A letter; none for the first one of a client. */
  readonly type: string | undefined;
  readonly bytes: Buffer;
}

/**
 * Reads one way of one connection, message by message: a type, a length and a body, but for the first one of a client, which has no
 * type. What is not whole yet is kept. An offer to encrypt would be a second one without a type; nobody here makes it.
 */
export function messageReader(from: 'client' | 'server'): (chunk: Buffer) => Message[] {
  let rest: Buffer = Buffer.alloc(0);
  let isFirst = from === 'client';
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const messages: Message[] = [];
    for (;;) {
      const typeBytes = isFirst ? 0 : 1;
      if (rest.length < typeBytes + 4) return messages;
      const end = typeBytes + rest.readUInt32BE(typeBytes);
      if (rest.length < end) return messages;
      const bytes = rest.subarray(0, end);
      messages.push({ type: isFirst ? undefined : String.fromCharCode(bytes[0] as number), bytes });
      isFirst = false;
      rest = rest.subarray(end);
    }
  };
}
