/**
 * A layer of proof, as the museum asks it: what vitest runs of it, and what it counts.
 *
 * @typedef {object} Layer
 * @property {string} name
 * @property {string} unit what is counted until it notices a bug
 * @property {boolean} isLogged counted by the layer itself (test/support/operations-log.ts), else the tests that have run
 * @property {(exhibit: import('./exhibits/exhibit.mjs').Exhibit) => readonly string[]} args
 */

/** From the smallest part of the library to all of it. @type {readonly Layer[]} */
export const LAYERS = [
  { name: 'unit tests', unit: 'tests', isLogged: false, args: () => ['--project', 'unit', 'libs/'] },
  {
    name: 'store contract',
    unit: 'cases',
    isLogged: false,
    args: () => e2e('test/store-contract.e2e-spec.ts', 'on connections of its own (pipeline: true)'),
  },
  {
    name: 'interleavings',
    unit: 'orders',
    isLogged: true,
    args: () => e2e('test/interleavings.e2e-spec.ts', 'under a default of read committed'),
  },
  {
    name: 'random lives',
    unit: 'commands',
    isLogged: true,
    args: () => e2e('test/model-based.e2e-spec.ts', 'agrees with the reference model'),
  },
  { name: 'behaviour', unit: 'tests', isLogged: false, args: ({ spec }) => e2e(spec) },
];

function e2e(spec, test) {
  const named = test === undefined ? [] : ['-t', test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')];
  return ['--project', 'e2e', spec, ...named];
}
