import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The files that take longest, the longest first: one that begins last keeps a single core busy while the others have nothing left to do. A
 * fresh clone knows no durations of its own.
 */
const LONG = [
  'model-based',
  'concurrency',
  'cost',
  'rolling-upgrade',
  'start-scaled',
  'ketama',
  'scenario',
  'rolling',
  'checkout-completer',
].map((name) => `/test/${name}.e2e-spec.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const found = LONG.findIndex((name) => moduleId.endsWith(name));
      return found === -1 ? LONG.length : found;
    };
    // oxlint-disable-next-line unicorn/no-array-sort -- it is no array
    const sorted = await super.sort(files);
    return sorted.toSorted((one, other) => place(one) - place(other));
  }
}
