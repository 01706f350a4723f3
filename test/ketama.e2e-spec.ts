import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { KetamaRing, type NodeAddress } from '../libs/idempotency/src/cache/memcached/ketama-ring.js';
import { NODE_LISTS, VECTOR_KEYS, VECTORS_FILE, vectorText } from './support/ketama-vectors.js';
import { describeWith, serverPath } from './support/servers.js';

const SOURCE = fileURLToPath(new URL('support/ketama-reference.c', import.meta.url));

describeWith(['gcc', 'libmemcached-dev'], 'The ring of nodes, beside that of libmemcached', () => {
  let folder: string;
  let program: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'ketama-'));
    program = join(folder, 'ketama-reference');
    execFileSync(serverPath('gcc'), ['-o', program, SOURCE, '-lmemcached']);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function libmemcached(nodes: readonly NodeAddress[], keys: readonly string[]): number[] {
    const args = nodes.flatMap(({ host, port }) => [host, String(port)]);
    const input = `${keys.join('\n')}\n`;
    const output = execFileSync(program, args, { input, encoding: 'utf8', maxBuffer: 2 ** 26 });
    return output.trim().split('\n').map(Number);
  }

  function differences(nodes: readonly NodeAddress[], keys: readonly string[]): number {
    const ring = new KetamaRing(nodes);
    const expected = libmemcached(nodes, keys);
    expect(expected.length).toBe(keys.length);
    return keys.filter((key, index) => ring.ownerOf(key) !== expected[index]).length;
  }

  const keysOf = (count: number): string[] =>
    Array.from(
      { length: count },
      (_, index) => `shop:${createHash('sha256').update(String(index)).digest('hex')}`,
    );

  it('gives each of 100,000 keys to the same node', () => {
    const keys = keysOf(100_000);
    for (const nodes of NODE_LISTS) {
      expect(new Set(libmemcached(nodes, keys)).size).toBe(nodes.length);
      expect(differences(nodes, keys)).toBe(0);
    }
  });

  it('does so for every number of nodes that libmemcached takes', () => {
    const keys = keysOf(1_000);
    const wrong: string[] = [];
    for (let count = 1; count <= 100; count++) {
      const nodes = Array.from({ length: count }, (_, index) => ({
        host: `10.0.1.${index + 1}`,
        port: 11_211 + (index % 2),
      }));
      const different = differences(nodes, keys);
      if (different > 0) wrong.push(`${count} nodes: ${different}`);
    }
    expect(wrong).toEqual([]);
  });

  it('is what the vectors hold that are checked where libmemcached is not installed', async () => {
    const owners = NODE_LISTS.map((nodes) => libmemcached(nodes, VECTOR_KEYS));
    await expect(vectorText(owners)).toMatchFileSnapshot(VECTORS_FILE);
  });
});
