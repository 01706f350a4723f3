import { MUTANTS } from '../../mutants/mutants.mjs';

/**
 * A bug that another project has had, put into this library.
 *
 * @typedef {object} Edit
 * @property {string} file below libs/idempotency/src
 * @property {string} find stands there, for the first time
 * @property {string} replace
 *
 * @typedef {object} Exhibit
 * @property {string} name what is wrong, in a few words
 * @property {string} peers who has had it, and where that can be read
 * @property {string} seen what it did there, or was reported to do
 * @property {readonly Edit[]} edits the same mistake here
 * @property {string} spec the tests of behaviour that are there for it
 */

/**
 * The edit of a mutant of `npm run mutants`, which has the same mistake.
 *
 * @param {string} name
 * @returns {Edit}
 */
export function mutant(name) {
  const found = MUTANTS.find((one) => one.name === name);
  if (!found) throw new Error(`there is no mutant of the name: ${name}`);
  const { file, find, replace } = found;
  return { file, find, replace };
}
