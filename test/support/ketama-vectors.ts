import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { NodeAddress } from '../../libs/idempotency/src/cache/memcached/ketama-ring.js';

/** Keys and their nodes, as libmemcached has them; made again by `npx vitest run --project e2e test/ketama.e2e-spec.ts -u`. */
export const VECTORS_FILE = fileURLToPath(new URL('ketama-vectors.txt', import.meta.url));

/** Every form of a name, and the numbers of nodes where floats and doubles count differently. */
export const NODE_LISTS: readonly (readonly NodeAddress[])[] = [
  ['127.0.0.1', '127.0.0.2', '127.0.0.3'].map((host) => ({ host, port: 11211 })),
  [11211, 11212, 11213].map((port) => ({ host: '127.0.0.1', port })),
  [
    { host: 'cache-1.example.org', port: 11211 },
    { host: 'Cache-2', port: 11299 },
    { host: '10.0.0.3', port: 1 },
    { host: '::1', port: 11211 },
    { host: '2001:db8::7', port: 65_535 },
  ],
  ...[7, 10, 25].map((count) =>
    Array.from({ length: count }, (_, index) => ({ host: `10.0.0.${index + 1}`, port: 11211 })),
  ),
];

export const VECTOR_KEYS: readonly string[] = Array.from({ length: 40 }, (_, index) => `cart:${index}`);

/** As the file holds it: a list of nodes, and below it each key with the place of its node. */
export function vectorText(owners: readonly (readonly number[])[]): string {
  return NODE_LISTS.map((nodes, list) =>
    [
      nodes.map(({ host, port }) => `${host} ${port}`).join(', '),
      ...VECTOR_KEYS.map((key, index) => `  ${key} ${owners[list]?.[index]}`),
      '',
    ].join('\n'),
  ).join('\n');
}

export const readVectors = (): string => readFileSync(VECTORS_FILE, 'utf8');
