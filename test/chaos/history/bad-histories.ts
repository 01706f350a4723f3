import { BAD_ANSWERS } from './bad-histories-answers.js';
import { BAD_EFFECTS } from './bad-histories-effects.js';
import { BAD_RUNS } from './bad-histories-runs.js';
import type { BadHistory } from './bad-history.js';

/** Everything that the checker has to find: each is made by hand, and breaks one promise only. */
export const BAD_HISTORIES: readonly BadHistory[] = [...BAD_EFFECTS, ...BAD_ANSWERS, ...BAD_RUNS];
