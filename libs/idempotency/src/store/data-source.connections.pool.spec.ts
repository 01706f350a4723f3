import { EventEmitter } from 'node:events';
import type { DataSource } from 'typeorm';
import { describe, expect, it, vi } from 'vitest';
import { connectionsOf, poolOf } from './data-source.connections.js';

/** A data source of TypeORM's kind, with pools that nobody connects. */
function dataSource({ slaves }: { slaves?: EventEmitter[] } = {}) {
  const master = new EventEmitter();
  const client = new EventEmitter();
  const release = vi.fn();
  const driver = {
    master,
    ...(slaves ? { slaves } : {}),
    obtainMasterConnection: () => Promise.resolve([client, release]),
  };
  const options = { type: 'postgres' };
  return { source: { options, driver } as unknown as DataSource, master, client, release };
}
const acquired = (pool: EventEmitter): EventEmitter => {
  const client = new EventEmitter();
  pool.emit('acquire', client);
  return client;
};

describe('the connections of a data source', () => {
  it('are those of its primary', async () => {
    const { source, client, release, master } = dataSource();
    expect(await connectionsOf(source).connect()).toEqual({ client, release });
    expect(poolOf(source)).toBe(master);
  });

  it('end no process when they break, of whatever pool, and have one listener for that', () => {
    const slave = new EventEmitter();
    const { source, master } = dataSource({ slaves: [slave] });
    connectionsOf(source);
    // As when a second module uses the same one.
    connectionsOf(source);
    for (const pool of [master, slave]) {
      expect(pool.listenerCount('acquire')).toBe(1);
      const client = acquired(pool);
      pool.emit('acquire', client);
      expect(client.listenerCount('error')).toBe(1);
      expect(() => client.emit('error', new Error('terminated'))).not.toThrow();
    }
  });

  it('prepare their statements together', () => {
    const { source } = dataSource();
    expect(connectionsOf(source).prepared?.isOn).toBe(false);
  });
});
