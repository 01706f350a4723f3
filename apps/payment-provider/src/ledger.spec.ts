import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Ledger, LedgerError } from './ledger.js';

let directory: string;
let file: string;
const open: Ledger[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'provider-ledger-'));
  file = join(directory, 'charges.jsonl');
});
afterEach(() => {
  for (const ledger of open.splice(0)) ledger.close();
  rmSync(directory, { recursive: true, force: true });
});

function openLedger(path?: string): Ledger {
  const ledger = new Ledger(path);
  open.push(ledger);
  return ledger;
}
const keysOf = (ledger: Ledger): string[] => ledger.entries().map(({ key }) => key);

describe('a ledger', () => {
  it('charges a key once, and tells another amount apart', () => {
    const ledger = openLedger();
    const first = ledger.charge('a', 5);
    expect(first).toEqual({
      kind: 'charged',
      charge: {
        chargeId: expect.stringMatching(/^ch_./),
        key: 'a',
        amount: 5,
        createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      },
    });
    expect(ledger.charge('a', 5)).toEqual({ kind: 'replayed', charge: first.charge });
    expect(ledger.charge('a', 6)).toEqual({ kind: 'mismatch', charge: first.charge });
    expect(ledger.entries()).toEqual([{ ...first.charge, calls: 0 }]);
  });

  it('lists charges in the order they were made, whatever their keys are', () => {
    const ledger = openLedger();
    for (const key of ['b', '10', 'a', '2', '__proto__']) ledger.charge(key, 1);
    expect(keysOf(ledger)).toEqual(['b', '10', 'a', '2', '__proto__']);
  });
});

describe('a ledger with a file', () => {
  it('appends one line of JSON for each charge, and knows them when it is opened again', () => {
    const before = openLedger(file);
    const a = before.charge('a', 5).charge;
    const b = before.charge('b', 7).charge;
    before.charge('a', 5);
    expect(readFileSync(file, 'utf8')).toBe(`${JSON.stringify(a)}\n${JSON.stringify(b)}\n`);

    const after = openLedger(file);
    expect(after.charge('a', 5)).toEqual({ kind: 'replayed', charge: a });
    expect(after.charge('b', 8)).toEqual({ kind: 'mismatch', charge: b });
    expect(keysOf(after)).toEqual(['a', 'b']);
  });

  it('forgets a torn last line, wherever it is torn, and goes on behind the last whole one', () => {
    const { charge } = openLedger(file).charge('a', 5);
    const whole = `${JSON.stringify(charge)}\n`;
    const torn = `${JSON.stringify({ ...charge, key: 'torn' })}\n`;
    for (let length = 1; length < torn.length; length++) {
      writeFileSync(file, whole);
      appendFileSync(file, torn.slice(0, length));
      const ledger = openLedger(file);
      expect(keysOf(ledger)).toEqual(['a']);
      const next = ledger.charge('b', 1).charge;
      expect(readFileSync(file, 'utf8')).toBe(`${whole}${JSON.stringify(next)}\n`);
    }
  });

  it('refuses a file that holds something else, since going on would charge again', () => {
    const { charge } = openLedger(file).charge('a', 5);
    const line = `${JSON.stringify(charge)}\n`;
    const reason = (text: string): unknown => {
      writeFileSync(file, text);
      try {
        new Ledger(file).close();
      } catch (error) {
        expect(error).toBeInstanceOf(LedgerError);
        return (error as Error).message;
      }
    };
    expect(reason(`${line}{"chargeId":"ch\n`)).toBe('its line 2 is no charge');
    expect(reason(`\n${line}`)).toBe('its line 1 is no charge');
    expect(reason('null\n')).toBe('its line 1 is no charge');
    expect(reason(`${JSON.stringify({ ...charge, amount: '5' })}\n`)).toBe('its line 1 is no charge');
    expect(reason(line + line)).toBe('its line 2 charges "a" a second time');
    expect(readFileSync(file, 'utf8')).toBe(line + line);
  });

  it('tells why a file cannot be opened', () => {
    expect(() => new Ledger(directory)).toThrow(/^EISDIR/);
    expect(() => new Ledger(join(directory, 'none', 'charges.jsonl'))).toThrow(/^ENOENT/);
  });

  it('remembers no charge that it could not write', () => {
    const ledger = new Ledger(file);
    ledger.close();
    expect(() => ledger.charge('a', 5)).toThrow(/EBADF/);
    expect(ledger.entries()).toEqual([]);
  });
});
