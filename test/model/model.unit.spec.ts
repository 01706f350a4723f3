import { describe, expect, it } from 'vitest';
import { describeWith } from '../support/servers.js';
import { MUTANTS } from './mutants.js';
import {
  type Bounds,
  counterExample,
  type Model,
  type Mutant,
  refute,
  type Verdict,
  verify,
} from './verifier.js';

/** `MODEL=full` looks at more histories, for some minutes. */
const IS_FULL = process.env['MODEL'] === 'full';
/** The mutants whose counter-examples are to be printed. */
const SHOWN = process.env['COUNTER_EXAMPLE'];

/** What is looked at of a mode: each in full. */
const SEARCHES: Record<Model, readonly Bounds[]> = {
  transaction: [
    { faults: 1, expiries: 1 },
    { faults: 2, expiries: 0 },
    { pair: true, faults: 2, expiries: 1, retries: 1 },
    ...(IS_FULL ? [{ faults: 2, expiries: 1 }] : []),
  ],
  lease: [
    { faults: 1, expiries: 1 },
    { pair: true, faults: 2, expiries: 0, retries: 1 },
    ...(IS_FULL
      ? [
          { faults: 2, expiries: 0 },
          { pair: true, faults: 3, expiries: 1 },
        ]
      : []),
  ],
};

function reportOf(
  model: Model,
  { pair, faults, expiries, retries = 0 }: Bounds,
  { states }: Verdict,
): string {
  const bounds = `callers ${pair ? 2 : 3}, faults ${faults}, retries ${retries}, expiries ${expiries}`;
  return `${model} mode, ${bounds}: ${states.toLocaleString('en')} states`;
}

/** What none of the searches came to. */
function unreachedIn(verdicts: readonly Verdict[]): string[] {
  const [first, ...others] = verdicts.map(({ unreached }) => unreached);
  return (first ?? []).filter((statement) => others.every((unreached) => unreached.includes(statement)));
}

const titleOf = ({ model, mutant, bug }: Mutant): string => `${model} mode: ${bug} (${mutant})`;

describeWith(['spin', 'gcc'], 'the model of the claim protocol', () => {
  describe.concurrent('the protocol', { timeout: 1_200_000 }, () => {
    it.each(['transaction', 'lease'] as const)(
      'keeps every property in every history of %s mode, and comes to each of its statements',
      async (model) => {
        const verdicts = await Promise.all(
          SEARCHES[model].map(async (bounds) => {
            const verdict = await verify(model, bounds);
            console.info(reportOf(model, bounds, verdict));
            expect(verdict.violation, verdict.output).toBeUndefined();
            expect(verdict).toMatchObject({ complete: true, errors: 0 });
            return verdict;
          }),
        );
        expect(unreachedIn(verdicts)).toEqual([]);
      },
    );
  });

  describe.concurrent('a bug', { timeout: 120_000 }, () => {
    it.each(MUTANTS.map((mutant) => [titleOf(mutant), mutant] as const))(
      'is found in %s',
      async (_, mutant) => {
        const { errors, violation, output } = await refute(mutant);
        expect(violation?.what, output).toContain(`||${mutant.property})`);
        expect(errors).toBe(1);
        console.info(
          `${mutant.model} mode, ${mutant.mutant}: ${mutant.property} broken in ${violation?.steps} steps`,
        );
        if (SHOWN === mutant.mutant) console.info(await counterExample(mutant));
      },
    );
  });
});
