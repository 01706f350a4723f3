import { describe, expect, it } from 'vitest';
import { checkHistory } from './checker.js';
import { history, wellUsed } from './history-builder.js';
import { DEFAULT_CHECK_OPTIONS } from './options.js';
import { report } from './report.js';
import { parseSettings } from './settings.js';

describe('the report of a verdict', () => {
  it('has a line for each promise, and the sum in the last one', async () => {
    const lines = report(await checkHistory(wellUsed().events)).split('\n');

    expect(lines).toHaveLength(12);
    expect(lines[1]).toMatch(/^P1 +kept, checked 1 times: /);
    expect(lines[8]).toMatch(/^P8 +untold, checked 0 times: /);
    expect(lines.at(-1)).toBe('0 violations in 2 checked requests');
  });

  it('lists violations under their promise, and says how many it leaves out', async () => {
    const bad = history();
    for (let call = 1; call <= 3; call++)
      bad
        .on({ key: `k${call}` })
        .first(call)
        .effect()
        .record();

    const text = report(await checkHistory(bad.events, { maxListed: 1 }));

    expect(text).toContain(
      'broken 3 times, checked 3 times: every key answers finally when the faults are over\n' +
        '      "k1" of "ann", POST /ledger/transaction: it was never swept\n' +
        '      and 2 more\n',
    );
    expect(text).toMatch(/\n3 violations in 3 checked requests$/);
  });
});

describe('the settings of the command line', () => {
  it('are options of every type', () => {
    expect(
      parseSettings([
        'answerWithinMs=12000',
        'residentBytesPer1000Requests=Infinity',
        'exemptFaults=restart,kill',
        'leaseHandlersWrite=false',
        'replayStatus=original',
      ]),
    ).toEqual({
      answerWithinMs: 12_000,
      residentBytesPer1000Requests: Infinity,
      exemptFaults: ['restart', 'kill'],
      leaseHandlersWrite: false,
      replayStatus: 'original',
    });
  });

  it.each([
    'answerWithin=1',
    'answerWithinMs',
    'answerWithinMs=',
    'answerWithinMs=soon',
    'answerWithinMs=-1',
    'replayStatus=201',
    'leaseHandlersWrite=no',
  ])('are refused as %s', (word) => {
    expect(() => parseSettings([word])).toThrow(`${word}: expected`);
  });

  it('can name every option', () => {
    for (const [name, value] of Object.entries(DEFAULT_CHECK_OPTIONS)) {
      const word = `${name}=${Array.isArray(value) ? 'a' : String(value)}`;
      expect(parseSettings([word])).toEqual({ [name]: Array.isArray(value) ? ['a'] : value });
    }
  });
});
