import { createWriteStream, type WriteStream } from 'node:fs';
import { once } from 'node:events';
import type { HistoryEvent } from '../history/event.js';

/** Writes the history of a run, in the order in which it is told. */
export class HistoryLog {
  readonly #began = performance.now();
  readonly #stream: WriteStream;
  #calls = 0;
  #requests = 0;

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

  /** Calls of protected routes so far. */
  get requests(): number {
    return this.#requests;
  }

  tell(event: HistoryEvent): void {
    if (event.kind === 'invoke' && event.mode !== 'bystander') this.#requests++;
    this.#stream.write(`${JSON.stringify(event)}\n`);
  }

  /** Resolves when what was told so far is out of memory, or nearly so. */
  async written(): Promise<void> {
    if (this.#stream.writableNeedDrain) await once(this.#stream, 'drain');
  }

  async close(): Promise<void> {
    this.#stream.end();
    await once(this.#stream, 'close');
  }
}
