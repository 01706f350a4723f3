import { randomUUID } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
} from 'node:fs';
import { isAmount } from './charge-request.js';

/** Money that was taken, once for its key. */
export interface Charge {
  readonly chargeId: string;
  readonly key: string;
  readonly amount: number;
  readonly createdAt: string;
}

export interface LedgerEntry extends Charge {
  /** How many calls have arrived for the key since this process started, failed ones included. */
  readonly calls: number;
}

export type ChargeOutcome =
  | { readonly kind: 'charged'; readonly charge: Charge }
  | { readonly kind: 'replayed'; readonly charge: Charge }
  /** The key has charged another amount: nothing is charged. */
  | { readonly kind: 'mismatch'; readonly charge: Charge };

/** The ledger file cannot be used; the message is the reason. */
export class LedgerError extends Error {
  override readonly name = 'LedgerError';
}

/**
 * Every charge, one for each key. With a file, a charge is on disk before {@link charge} returns it.
 *
 * All of it is synchronous: nothing comes between looking a key up and charging it.
 */
export class Ledger {
  private readonly charges = new Map<string, Charge>();
  private readonly calls = new Map<string, number>();
  private readonly fd: number | undefined;

  /** @throws LedgerError */
  constructor(file?: string) {
    if (file === undefined) return;
    try {
      this.fd = openSync(file, 'a+');
      this.load(this.fd);
    } catch (error) {
      this.close();
      if (error instanceof LedgerError) throw error;
      throw new LedgerError(error instanceof Error ? error.message : String(error), { cause: error });
    }
  }

  /** Notes that a call has arrived, whatever becomes of it. */
  countCall(key: string): void {
    this.calls.set(key, (this.calls.get(key) ?? 0) + 1);
  }

  /** Charges unless the key has charged already. When it throws, nothing is charged. */
  charge(key: string, amount: number): ChargeOutcome {
    const earlier = this.charges.get(key);
    if (earlier) return { kind: earlier.amount === amount ? 'replayed' : 'mismatch', charge: earlier };
    const charge = { chargeId: `ch_${randomUUID()}`, key, amount, createdAt: new Date().toISOString() };
    if (this.fd !== undefined) append(this.fd, `${JSON.stringify(charge)}\n`);
    this.charges.set(key, charge);
    return { kind: 'charged', charge };
  }

  /** The charges in the order they were made. */
  entries(): LedgerEntry[] {
    return [...this.charges.values()].map((charge) => ({
      ...charge,
      calls: this.calls.get(charge.key) ?? 0,
    }));
  }

  /** Lets the file go. Nothing can be charged afterwards. */
  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
  }

  private load(fd: number): void {
    const bytes = readFileSync(fd);
    // A line counts from its newline on. What stands behind the last one was being written when the process was
    // killed: nobody was told of it, and the next charge must not be glued to it.
    const end = bytes.lastIndexOf('\n') + 1;
    if (end < bytes.length) ftruncateSync(fd, end);
    const lines = bytes.toString('utf8', 0, end).split('\n').slice(0, -1);
    for (const [index, line] of lines.entries()) {
      const charge = parseCharge(line);
      // Going on without it would charge its key again.
      if (!charge) throw new LedgerError(`its line ${index + 1} is no charge`);
      if (this.charges.has(charge.key)) {
        throw new LedgerError(`its line ${index + 1} charges ${JSON.stringify(charge.key)} a second time`);
      }
      this.charges.set(charge.key, charge);
    }
  }
}

/** All of the line, or, when it throws, none of it. */
function append(fd: number, line: string): void {
  const { size } = fstatSync(fd);
  try {
    appendFileSync(fd, line);
    fsyncSync(fd);
  } catch (error) {
    ftruncateSync(fd, size);
    throw error;
  }
}

function parseCharge(line: string): Charge | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { chargeId, key, amount, createdAt } = (value ?? {}) as Partial<Record<keyof Charge, unknown>>;
  if (typeof chargeId !== 'string' || typeof key !== 'string' || typeof createdAt !== 'string')
    return undefined;
  return isAmount(amount) ? { chargeId, key, amount, createdAt } : undefined;
}
