import type net from 'node:net';

/** What the way does to bytes that go one way. */
export type LaneFault =
  /** Nothing arrives until the fault is over: as on a network that loses every packet, which are then sent again. */
  | { readonly kind: 'black-hole' }
  | { readonly kind: 'delay'; readonly delayMs: number }
  | { readonly kind: 'throttle'; readonly bytesPerSecond: number }
  /** Every byte is a packet of its own. */
  | { readonly kind: 'one-byte-chunks' };

const SLICE_MS = 10;

/** One way of one connection. Bytes arrive in their order, whatever is done to them. */
export class Lane {
  #fault: LaneFault | undefined;
  #queue: { readonly chunk: Buffer; readonly arrivedMs: number }[] = [];
  #isDelivering = false;
  #isEnding = false;
  #changed: (() => void) | undefined;

  constructor(
    private readonly to: net.Socket,
    fault: LaneFault | undefined,
  ) {
    this.#fault = fault;
  }

  setFault(fault: LaneFault | undefined): void {
    this.#fault = fault;
    this.#changed?.();
  }

  send(chunk: Buffer): void {
    if (this.#fault === undefined && !this.#isDelivering) {
      this.to.write(chunk);
      return;
    }
    this.#queue.push({ chunk, arrivedMs: performance.now() });
    if (!this.#isDelivering) void this.#deliver();
  }

  /** Ends this way behind the bytes that were sent on it. */
  end(): void {
    this.#isEnding = true;
    if (!this.#isDelivering) this.to.end();
  }

  /** Gives up what is still on its way, and waits for nothing any more. */
  close(): void {
    this.#queue = [];
    this.#changed?.();
  }

  async #deliver(): Promise<void> {
    this.#isDelivering = true;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      const rest = await this.#pass(next.chunk, next.arrivedMs);
      if (this.to.destroyed) this.#queue = [];
      else if (rest === undefined) this.#queue.shift();
      else this.#queue[0] = { chunk: rest, arrivedMs: next.arrivedMs };
    }
    this.#isDelivering = false;
    if (this.#isEnding) this.to.end();
  }

  /** Lets a part of it through, or all; resolves with what is left. */
  async #pass(chunk: Buffer, arrivedMs: number): Promise<Buffer | undefined> {
    const fault = this.#fault;
    switch (fault?.kind) {
      case 'black-hole':
        await this.#changeWithin(undefined);
        return chunk;
      case 'delay': {
        const leftMs = arrivedMs + fault.delayMs - performance.now();
        if (leftMs > 0) {
          await this.#changeWithin(leftMs);
          return chunk;
        }
        this.to.write(chunk);
        return undefined;
      }
      case 'throttle': {
        const bytes = Math.max(1, Math.floor((fault.bytesPerSecond * SLICE_MS) / 1_000));
        this.to.write(chunk.subarray(0, bytes));
        await this.#changeWithin(SLICE_MS);
        return restOf(chunk, bytes);
      }
      case 'one-byte-chunks':
        this.to.write(chunk.subarray(0, 1));
        await new Promise((resolve) => setImmediate(resolve));
        return restOf(chunk, 1);
      case undefined:
        this.to.write(chunk);
        return undefined;
      default:
        return fault satisfies never;
    }
  }

  /** Until the fault is another one, or the time is over. */
  async #changeWithin(ms: number | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.#changed = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#changed = undefined;
  }
}

const restOf = (chunk: Buffer, passed: number): Buffer | undefined =>
  chunk.length > passed ? chunk.subarray(passed) : undefined;
