import { describe, expect, it } from 'vitest';
import { BAD_HISTORIES } from './bad-histories.js';
import { checkHistory } from './checker.js';
import { GOOD_HISTORIES } from './good-histories.js';
import { history, type HistoryBuilder, wellUsed } from './history-builder.js';
import { PROMISE_NAMES } from './verdict.js';

describe('a history that breaks one promise', () => {
  for (const { finds, promise, message, history: bad, options } of BAD_HISTORIES) {
    it(`finds ${finds}: ${promise}`, async () => {
      const { violations, total, promises } = await checkHistory(bad.events, options);

      expect(violations.map((violation) => `${violation.promise}: ${violation.message}`)).toEqual([
        `${promise}: ${message}`,
      ]);
      expect(total).toBe(1);
      expect(promises[promise].checked).toBeGreaterThan(0);
    });
  }

  it('is there for every promise', () => {
    expect(new Set(BAD_HISTORIES.map(({ promise }) => promise))).toEqual(new Set(PROMISE_NAMES));
  });
});

describe('a history that looks suspicious', () => {
  for (const { accepts, history: good, options } of GOOD_HISTORIES) {
    it(`accepts ${accepts}`, async () => {
      const { violations, total, checked } = await checkHistory(good.events, options);

      expect(violations).toEqual([]);
      expect(total).toBe(0);
      expect(checked.requests).toBeGreaterThan(0);
    });
  }
});

describe('a history that cannot be right', () => {
  const broken: readonly [problem: string, message: string, bad: HistoryBuilder][] = [
    ['is empty', 'the history is empty', history()],
    [
      'holds no request of a protected route',
      'no request of a protected route is in it',
      history().bystanders([1, 2], 20).effect().record(),
    ],
    ['invokes a call twice', 'call 1 is invoked twice', wellUsed().send(1)],
    ['ends a call twice', 'call 1 ends twice', history().first(1).replay(1)],
    ['ends a call that never began', 'call 2 ends without an invoke', history().first(1).ok(2)],
    ['does not end calls', '2 calls have no end: 1 and 2', history().send(1).send(2).first(3)],
    [
      'goes back in time',
      'event 3 goes back in time, from 20 ms to 15 ms',
      history().first(1).at(5).first(2),
    ],
    [
      'has provider calls that go back in time',
      'a provider call at 20 ms comes after one at 110 ms',
      wellUsed().at(100).providerCall(1).at(10).providerCall(1),
    ],
    [
      'uses a key in two modes',
      'key "k1" of "ann" is in mode transaction, and in mode lease in call 2',
      history().first(1).on({ mode: 'lease' }).first(2),
    ],
    [
      'has a fault that is over before it begins',
      'fault kill begins at 30 ms and is over at 20 ms',
      wellUsed().fault('kill', 30, 20),
    ],
    [
      'has samples without a baseline',
      'there are samples, and none of the baseline',
      wellUsed().sample('end'),
    ],
    [
      'has samples without an end',
      'there are samples, and none of the end',
      wellUsed().sample('baseline').sample('faults'),
    ],
  ];

  it.each(broken)('is refused when it %s', async (_, message, { events }) => {
    await expect(checkHistory(events)).rejects.toMatchObject({ name: 'BrokenHistoryError', message });
  });
});

describe('a verdict', () => {
  it('names the key and the calls', async () => {
    const { violations } = await checkHistory(history().first(1).first(2).swept(9).effect().record().events);

    expect(violations).toEqual([
      {
        promise: 'P3',
        subject: { scope: 'ann', operation: 'POST /ledger/transaction', key: 'k1' },
        calls: [2],
        message: expect.stringContaining('call 2 got 201'),
      },
    ]);
  });

  it('counts all violations, lists the first ones of each promise, and says what it has looked at', async () => {
    const many = history();
    for (let call = 1; call <= 50; call++)
      many
        .on({ key: `k${call}` })
        .first(call)
        .effect()
        .record();
    many.on({ key: 'k1' }).effect().bystanders([900, 901], 20);

    const verdict = await checkHistory(many.events, { maxListed: 3 });

    expect(verdict.total).toBe(51);
    expect(verdict.promises.P4).toEqual({ checked: 50, violations: 50 });
    expect(verdict.violations.map(({ promise }) => promise)).toEqual(['P1', 'P4', 'P4', 'P4']);
    expect(verdict.checked).toEqual({
      events: 205,
      requests: 50,
      subjects: 50,
      effects: 51,
      records: 50,
      providerCalls: 0,
      bystanders: 2,
      samples: 0,
      faults: 0,
    });
  });

  it('does not call a promise kept that the history tells nothing of', async () => {
    const { promises } = await checkHistory(wellUsed().events);

    expect(PROMISE_NAMES.filter((name) => promises[name].checked === 0)).toEqual(['P7', 'P8', 'P9']);
  });

  it('keeps the parts of a subject apart', async () => {
    const { checked } = await checkHistory(
      wellUsed()
        .on({ scope: 'annP', operation: 'OST /ledger/transaction' })
        .first(2)
        .swept(10)
        .effect()
        .record().events,
    );

    expect(checked.subjects).toBe(2);
  });
});
