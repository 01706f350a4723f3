import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MUTANTS } from '../mutants/mutants.mjs';
import { type Edit, EXHIBITS } from './exhibits/index.mjs';

const PAGE = 'docs/museum.md';

/** Where the text of an edit stands no more, its bug is not what the source would be with it. */
function lost(edits: readonly Edit[]): string[] {
  return edits
    .filter(({ file, find }) => !readFileSync(`libs/idempotency/src/${file}`, 'utf8').includes(find))
    .map(({ file, find }) => `${file}: ${find}`);
}

describe('the bugs that are put into the library', () => {
  it('have names of their own', () => {
    for (const named of [EXHIBITS, MUTANTS]) {
      expect(new Set(named.map(({ name }) => name)).size).toBe(named.length);
    }
  });

  it.each([...EXHIBITS, ...MUTANTS.map((mutant) => ({ ...mutant, edits: [mutant] }))])(
    'fit the source, and have tests that look for them: $name',
    ({ edits, spec }) => {
      expect(edits.length).toBeGreaterThan(0);
      expect(lost(edits)).toEqual([]);
      expect(edits.every(({ find, replace }) => find !== replace)).toBe(true);
      expect(existsSync(spec)).toBe(true);
    },
  );
});

describe(`the page of the museum, ${PAGE}`, () => {
  const page = readFileSync(PAGE, 'utf8');

  it('shows every exhibit, as noticed by a layer', () => {
    expect(EXHIBITS.length).toBeGreaterThanOrEqual(25);
    expect(page).toContain(`${EXHIBITS.length} of ${EXHIBITS.length} are noticed`);
    for (const { name } of EXHIBITS) {
      const row = page.split('\n').find((line) => line.includes(`**${name}**`));
      expect(row, name).toMatch(/\| +\d+/);
      expect(row, name).not.toMatch(/\| +\?/);
    }
  });
});
