import { connect, type Socket } from 'node:net';
import type { NodeAddress } from './ketama-ring.js';
import { OutOfStepError, ReplyReader, type Reply } from './reply-reader.js';

export interface ConnectionLimits {
  readonly timeoutMs: number;
  readonly maxPending: number;
  readonly maxValueBytes: number;
}

export interface ConnectionEvents {
  /** It has answered for the first time: it is a Memcached, and it runs. */
  ready(): void;
  /** It has answered a question. */
  answered(): void;
  /** It is over, for this reason. Comes once, also when it was never ready. */
  ended(reason: Error): void;
}

/** What was asked, in the order in which it will be answered. */
interface Question {
  /** The key whose value may come; `undefined` where none may. */
  readonly key: string | undefined;
  /** The lines that answer it. */
  readonly answers: RegExp;
  readonly deadline: number;
  value: Buffer | undefined;
  resolve(value: Buffer | undefined): void;
  reject(error: Error): void;
}

/** Bytes that may wait for a server that does not read; what would come on top rejects at once. */
const MAX_UNSENT_BYTES = 16 * 1_048_576;
const KEEP_ALIVE_MS = 60_000;

/**
 * One TCP connection to one node, from the first packet to the last. Answers have no name: the first belongs to the first
 * question. So whatever is not the expected answer ends the connection, and all that was asked on it rejects: no answer can be
 * taken for that of another question, not even one that comes too late.
 */
export class MemcachedConnection {
  readonly #socket: Socket;
  readonly #reader: ReplyReader;
  readonly #questions: Question[] = [];
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(
    { host, port }: NodeAddress,
    private readonly limits: ConnectionLimits,
    private readonly events: ConnectionEvents,
  ) {
    this.#reader = new ReplyReader(limits.maxValueBytes);
    this.#socket = connect({
      host,
      port,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
      noDelay: true,
    });
    this.#socket.on('data', (chunk) => this.#receive(chunk));
    this.#socket.on('error', (error) => this.end(error));
    this.#socket.on('close', () => this.end(new Error('it closed the connection')));
    // The operating system accepts connections for a process that is frozen; only an answer shows that it runs.
    void this.#greet();
  }

  async #greet(): Promise<void> {
    try {
      await this.#ask([Buffer.from('version\r\n')], /^VERSION /);
    } catch {
      return;
    }
    if (!this.#ended) this.events.ready();
  }

  async get(key: string): Promise<Buffer | undefined> {
    return this.#ask([Buffer.from(`get ${key}\r\n`)], /^END$/, key);
  }

  async set(key: string, value: Uint8Array, seconds: number): Promise<void> {
    await this.#ask(stored('set', key, value, seconds), /^STORED$/);
  }

  async add(key: string, value: Uint8Array, seconds: number): Promise<void> {
    await this.#ask(stored('add', key, value, seconds), /^(?:STORED|NOT_STORED)$/);
  }

  async delete(key: string): Promise<void> {
    await this.#ask([Buffer.from(`delete ${key}\r\n`)], /^(?:DELETED|NOT_FOUND)$/);
  }

  /** At once; everything that was asked rejects. */
  end(reason: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket.destroy();
    for (const question of this.#questions.splice(0)) question.reject(reason);
    this.events.ended(reason);
  }

  #ask(parts: readonly Uint8Array[], answers: RegExp, key?: string): Promise<Buffer | undefined> {
    if (this.#ended) return Promise.reject(new Error('the connection is over'));
    if (this.#questions.length >= this.limits.maxPending) {
      return Promise.reject(new Error(`${this.#questions.length} questions are without an answer`));
    }
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) {
      return Promise.reject(new Error(`${this.#socket.writableLength} bytes wait to be sent`));
    }
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + this.limits.timeoutMs;
      this.#questions.push({ key, answers, deadline, value: undefined, resolve, reject });
      this.#socket.cork();
      for (const part of parts) this.#socket.write(part);
      this.#socket.uncork();
      if (this.#timer === undefined) this.#watch(this.limits.timeoutMs);
    });
  }

  /** One timer for the oldest question, as all have the same time. */
  #watch(ms: number): void {
    this.#timer = setTimeout(() => {
      // An answer may have come while the process was busy: what has arrived is read first.
      setImmediate(() => {
        this.#timer = undefined;
        const oldest = this.#questions[0];
        if (!oldest || this.#ended) return;
        const left = oldest.deadline - performance.now();
        if (left > 0) this.#watch(left);
        else this.end(new Error(`it did not answer within ${this.limits.timeoutMs} ms`));
      });
    }, ms);
    this.#timer.unref();
  }

  #receive(chunk: Buffer): void {
    try {
      for (const reply of this.#reader.read(chunk)) {
        if (this.#ended) return;
        this.#take(reply);
      }
    } catch (error) {
      this.end(error as Error);
    }
  }

  #take(reply: Reply): void {
    const question = this.#questions[0];
    if (!question) throw new OutOfStepError('it sent something that nobody asked for');
    switch (reply.kind) {
      case 'value':
        if (reply.key !== question.key || question.value) {
          throw new OutOfStepError('it sent a value that was not asked for');
        }
        question.value = reply.value;
        return;
      case 'line':
        if (!question.answers.test(reply.line)) {
          throw new OutOfStepError(`it answered ${JSON.stringify(reply.line.slice(0, 100))}`);
        }
        this.#questions.shift();
        this.events.answered();
        question.resolve(question.value);
    }
  }
}

function stored(verb: 'set' | 'add', key: string, value: Uint8Array, seconds: number): Uint8Array[] {
  return [Buffer.from(`${verb} ${key} 0 ${seconds} ${value.byteLength}\r\n`), value, Buffer.from('\r\n')];
}
