import type { BrokenStore } from './broken-store.js';
import { brokenClaims, brokenRetries } from './claim-stores.js';
import { brokenFences } from './fence-stores.js';
import { brokenLeases } from './lease-stores.js';
import { brokenOutcomes } from './outcome-stores.js';
import { brokenSurroundings } from './surrounding-stores.js';

export type { BrokenStore } from './broken-store.js';

/** At least one for each case of the contract. */
export const BROKEN_STORES: readonly BrokenStore[] = [
  ...brokenClaims,
  ...brokenRetries,
  ...brokenOutcomes,
  ...brokenSurroundings,
  ...brokenLeases,
  ...brokenFences,
];
