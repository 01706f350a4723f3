import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JournalEntry } from '../store/journal-entry.js';
import { Journal } from './journal.js';
import { StepOrderError } from './lease.errors.js';

const entryOf = (name: string, position: number, entry: Partial<JournalEntry> = {}): JournalEntry => ({
  name,
  position,
  kind: 'step',
  attempt: 1,
  raised: false,
  contentType: null,
  body: Buffer.alloc(0),
  ...entry,
});
const journalOf = (...entries: JournalEntry[]): Journal => new Journal('POST /orders', entries);

describe('a journal', () => {
  it('numbers the steps and phases that a handler comes to, from 1', () => {
    const journal = journalOf();
    expect(journal.visit('step', 'a')).toEqual({ name: 'a', kind: 'step', position: 1, entry: undefined });
    expect(journal.visit('phase', 'b')).toEqual({ name: 'b', kind: 'phase', position: 2, entry: undefined });
    expect(journal.isEmpty).toBe(true);
  });

  it('hands out what was done before, however its entries are ordered, and goes on behind it', () => {
    const [charge, reserve] = [entryOf('charge', 2), entryOf('reserve', 1, { kind: 'phase' })];
    const journal = journalOf(charge, reserve);
    expect(journal.visit('phase', 'reserve').entry).toBe(reserve);
    expect(journal.visit('step', 'charge').entry).toBe(charge);
    expect(journal.visit('step', 'notify')).toMatchObject({ position: 3, entry: undefined });
    expect(journal.isEmpty).toBe(false);
  });

  it('hands out what this run has done when the handler is run again, and not before', () => {
    const journal = journalOf();
    journal.visit('step', 'a');
    journal.add(entryOf('a', 1));
    expect(() => journal.visit('step', 'a')).toThrow('the name "a" was used twice');
    journal.restart();
    expect(journal.visit('step', 'a').entry).toEqual(entryOf('a', 1));
  });

  it('lets a step that failed be come to again in another run', () => {
    const journal = journalOf();
    journal.visit('step', 'a');
    journal.restart();
    expect(journal.visit('step', 'a')).toMatchObject({ position: 1, entry: undefined });
  });

  it('knows parallel steps of which only a later one was done', () => {
    const journal = journalOf(entryOf('b', 2));
    expect(journal.visit('step', 'a')).toMatchObject({ position: 1, entry: undefined });
    expect(journal.visit('step', 'b')).toMatchObject({ position: 2, entry: entryOf('b', 2) });
  });

  const done = [entryOf('reserve', 1, { kind: 'phase' }), entryOf('charge', 2, { attempt: 3 })];
  const faults: [what: string, visits: ['step' | 'phase', string][], fault: string][] = [
    [
      'a name that comes later than it did',
      [
        ['phase', 'reserve'],
        ['step', 'charge'],
        ['phase', 'reserve'],
      ],
      'the name "reserve" was used twice',
    ],
    [
      'a name that comes sooner than it did',
      [['step', 'charge']],
      'step "charge" is number 1 now, and was number 2 when it was done',
    ],
    [
      'another kind under the same name',
      [['step', 'reserve']],
      '"reserve" is a step now, and was a phase when it was done',
    ],
    [
      'a new name in the place of one that was done',
      [
        ['phase', 'reserve'],
        ['step', 'fee'],
      ],
      'step "fee" stands where attempt 3 did the step "charge"',
    ],
  ];
  it.each(faults)('refuses %s, and says what it found', (_what, visits, fault) => {
    const journal = journalOf(...done);
    const last = visits.pop();
    for (const [kind, name] of visits) journal.visit(kind, name);
    const visit = (): unknown => last && journal.visit(...last);
    expect(visit).toThrow(StepOrderError);
    expect(visit).toThrow(`POST /orders: ${fault}. Steps and phases have names`);
  });

  it('does not count a visit that it refused', () => {
    const journal = journalOf(...done);
    expect(() => journal.visit('step', 'charge')).toThrow(StepOrderError);
    expect(journal.visit('phase', 'reserve')).toMatchObject({ position: 1 });
  });

  it.each([
    ['', '""'],
    ['n'.repeat(201), '"nnn'],
    ['a\0b', String.raw`"a\u0000b"`],
    [5, '5'],
    [undefined, 'undefined'],
  ])('refuses %o for a name', (name, shown) => {
    const visit = (): unknown => journalOf().visit('step', name as string);
    expect(visit).toThrow(StepOrderError);
    expect(visit).toThrow(`a step was given the name ${shown}`);
    expect(visit).toThrow('use a text of 1 to 200 characters');
  });

  it('takes any other text for a name', () => {
    fc.assert(
      fc.property(
        fc
          .string({ unit: 'grapheme', minLength: 1 })
          .filter((name) => name.length <= 200 && !name.includes('\0')),
        (name) => {
          expect(journalOf().visit('step', name).name).toBe(name);
        },
      ),
    );
  });

  it('names what was done and the run has not come to, once it ends', () => {
    const journal = journalOf(...done);
    expect(journal.skipped?.message).toContain(
      'the handler ended without phase "reserve" (attempt 1), step "charge" (attempt 3), which was done before',
    );
    journal.visit('phase', 'reserve');
    expect(journal.skipped).toBeInstanceOf(StepOrderError);
    journal.visit('step', 'charge');
    expect(journal.skipped).toBeUndefined();
    journal.restart();
    expect(journal.skipped).toBeInstanceOf(StepOrderError);
  });

  it('of any handler that does the same again gives back every result, whereever its attempts died', () => {
    const handler = fc.uniqueArray(
      fc.string({ minLength: 1, maxLength: 20 }).filter((n) => !n.includes('\0')),
      {
        minLength: 1,
      },
    );
    fc.assert(
      fc.property(handler, fc.array(fc.nat()), (names, deaths) => {
        const entries: JournalEntry[] = [];
        for (const [index, death] of [...deaths, names.length].entries()) {
          const journal = journalOf(...entries);
          for (const name of names.slice(0, death)) {
            const { entry, position } = journal.visit('step', name);
            expect(entry).toEqual(entries.find((other) => other.name === name));
            if (!entry) entries.push(entryOf(name, position, { attempt: index + 1 }));
          }
          if (death >= names.length) expect(journal.skipped).toBeUndefined();
        }
        expect(entries.map(({ name }) => name)).toEqual(names);
      }),
    );
  });
});
