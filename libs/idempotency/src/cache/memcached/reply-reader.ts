/** What a server of the text protocol says, one at a time. */
export type Reply =
  /** A line without its end: `STORED`, `END`, `SERVER_ERROR …`. */
  | { readonly kind: 'line'; readonly line: string }
  /** `VALUE <key> <flags> <bytes>`, and the bytes. */
  | { readonly kind: 'value'; readonly key: string; readonly value: Buffer };

/** The stream is not what a Memcached sends: nothing that follows can be trusted. */
export class OutOfStepError extends Error {
  override readonly name = 'OutOfStepError';
}

/** The longest that memcached sends is an error with its text; a key has 250 bytes at most. */
const LONGEST_LINE = 1_024;
const LINE_END = '\r\n';
const VALUE = /^VALUE (\S{1,250}) \d{1,10} (\d{1,10})(?: \d{1,20})?$/;

interface OpenValue {
  readonly key: string;
  readonly size: number;
  /** The value and its line end. */
  readonly bytes: Buffer;
  filled: number;
}

/** Cuts the stream of one connection into replies, however it is cut into packets. */
export class ReplyReader {
  /** The beginning of a line whose end has not come. */
  #rest: Buffer = Buffer.alloc(0);
  #value: OpenValue | undefined;

  constructor(private readonly maxValueBytes: number) {}

  /** @throws {OutOfStepError} */
  *read(chunk: Buffer): Generator<Reply, void> {
    let data = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = Buffer.alloc(0);
    while (data.length > 0) {
      if (this.#value) {
        data = this.#fill(this.#value, data);
        if (this.#value.filled < this.#value.bytes.length) return;
        yield closed(this.#value);
        this.#value = undefined;
        continue;
      }
      const end = data.indexOf(LINE_END);
      if (end === -1 ? data.length > LONGEST_LINE : end > LONGEST_LINE) {
        throw new OutOfStepError('it sent a line that is longer than any of Memcached');
      }
      if (end === -1) {
        // A copy: the packet that it was part of may be large.
        this.#rest = Buffer.from(data);
        return;
      }
      const line = data.toString('latin1', 0, end);
      data = data.subarray(end + LINE_END.length);
      if (line.startsWith('VALUE ')) this.#value = this.#open(line);
      else yield { kind: 'line', line };
    }
  }

  #open(line: string): OpenValue {
    const match = VALUE.exec(line);
    const size = Number(match?.[2]);
    if (!match?.[1] || size > this.maxValueBytes) {
      throw new OutOfStepError(`it sent ${JSON.stringify(line)}`);
    }
    return { key: match[1], size, bytes: Buffer.allocUnsafeSlow(size + LINE_END.length), filled: 0 };
  }

  /** The rest, which is no part of the value. */
  #fill(value: OpenValue, data: Buffer): Buffer {
    const taken = data.copy(value.bytes, value.filled);
    value.filled += taken;
    return data.subarray(taken);
  }
}

function closed({ key, size, bytes }: OpenValue): Reply {
  if (bytes.toString('latin1', size) !== LINE_END) {
    throw new OutOfStepError('it sent a value that does not end where it said');
  }
  return { kind: 'value', key, value: bytes.subarray(0, size) };
}
