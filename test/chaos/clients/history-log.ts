import { createWriteStream, type WriteStream } from 'node:fs';
import { once } from 'node:events';
import type { HistoryEvent } from '../history/event.js';

/** Writes the history of a run, in the order in which it is told. */
export class HistoryLog {
  readonly #began = performance.now();
  readonly #stream: WriteStream;
  #calls = 0;

  constructor(readonly file: string) {
    this.#stream = createWriteStream(file);
  }

  /** Time since the run began. */
  get nowMs(): number {
    return performance.now() - this.#began;
  }

  nextCall(): number {
    return ++this.#calls;
  }

  get calls(): number {
    return this.#calls;
  }

  tell(event: HistoryEvent): void {
    this.#stream.write(`${JSON.stringify(event)}\n`);
  }

  async close(): Promise<void> {
    this.#stream.end();
    await once(this.#stream, 'close');
  }
}
