import { ANSWERS } from './answers.mjs';
import { CLAIMS } from './claims.mjs';
import { COMMITS } from './commits.mjs';
import { KEYS } from './keys.mjs';
import { LEASES } from './leases.mjs';

/** By what they break, as the rooms of the page. */
export const ROOMS = [
  { title: 'Claims', exhibits: CLAIMS },
  { title: 'Commits and connections', exhibits: COMMITS },
  { title: 'Answers', exhibits: ANSWERS },
  { title: 'Keys and payloads', exhibits: KEYS },
  { title: 'Leases and time', exhibits: LEASES },
];
export const EXHIBITS = ROOMS.flatMap(({ exhibits }) => exhibits);
