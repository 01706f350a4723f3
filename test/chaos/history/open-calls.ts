import type { Evidence } from './evidence.js';
import { listed } from './sightings.js';
import { BrokenHistoryError } from './verdict.js';

/** A call between its `invoke` and its end. */
export interface OpenCall {
  readonly call: number;
  readonly atMs: number;
  readonly evidence: Evidence;
  readonly scope: string;
  /** As it is kept, to be compared. */
  readonly payload: string;
  readonly isSweep: boolean;
  /** A final answer for its key had come to a client when it was sent. */
  readonly isAfterOutcome: boolean;
  /** A bystander's place among the bystanders. */
  readonly bystander?: number;
}

/** Holds calls to their form: every one begins once and ends once. */
export class OpenCalls {
  readonly #open = new Map<number, OpenCall>();
  readonly #begun = new NumberSet();

  begin(call: OpenCall): void {
    if (!this.#begun.add(call.call)) throw new BrokenHistoryError(`call ${call.call} is invoked twice`);
    this.#open.set(call.call, call);
  }

  end(call: number): OpenCall {
    const open = this.#open.get(call);
    if (!open) {
      const reason = this.#begun.has(call) ? 'ends twice' : 'ends without an invoke';
      throw new BrokenHistoryError(`call ${call} ${reason}`);
    }
    this.#open.delete(call);
    return open;
  }

  /** @throws BrokenHistoryError when a call has no end. */
  close(): void {
    if (this.#open.size === 0) return;
    const first = [...this.#open.keys()].slice(0, 5);
    throw new BrokenHistoryError(`${this.#open.size} calls have no end: ${listed(first)}`);
  }
}

const PAGE_BITS = 1 << 15;

/** A set of counts, a bit each: the numbers of all calls of a long history fit into little memory. */
class NumberSet {
  readonly #pages = new Map<number, Uint32Array>();

  /** `false`: it was there already. */
  add(value: number): boolean {
    if (this.has(value)) return false;
    const page = Math.floor(value / PAGE_BITS);
    const bits = this.#pages.get(page) ?? new Uint32Array(PAGE_BITS / 32);
    this.#pages.set(page, bits);
    const bit = value % PAGE_BITS;
    bits[bit >>> 5] = (bits[bit >>> 5] ?? 0) | (1 << (bit & 31));
    return true;
  }

  has(value: number): boolean {
    const bit = value % PAGE_BITS;
    const word = this.#pages.get(Math.floor(value / PAGE_BITS))?.[bit >>> 5] ?? 0;
    return (word & (1 << (bit & 31))) !== 0;
  }
}
