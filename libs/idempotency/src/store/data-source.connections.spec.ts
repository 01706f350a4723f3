import 'reflect-metadata';
import { DataSource } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { IdempotencyConfigurationError } from '../errors/configuration.error.js';
import { connectionsOf, poolSizeOf } from './data-source.connections.js';

const postgres = (options: object = {}): DataSource => new DataSource({ type: 'postgres', ...options });

describe('connectionsOf', () => {
  // What it takes is shown by every end-to-end test. CockroachDB speaks the protocol of PostgreSQL, and is none.
  it('refuses any other data source, naming its type and the fix', () => {
    const cockroach = new DataSource({ type: 'cockroachdb', timeTravelQueries: false });
    expect(() => connectionsOf(cockroach)).toThrow(IdempotencyConfigurationError);
    expect(() => connectionsOf(cockroach)).toThrow(
      "dataSource: received 'cockroachdb'. Use a TypeORM data source of type 'postgres'",
    );
  });
});

describe('poolSizeOf', () => {
  it.each([
    [{}, 10],
    [{ poolSize: 3 }, 3],
    [{ extra: { max: 7 } }, 7],
    [{ poolSize: 3, extra: { max: 7 } }, 7],
    [{ poolSize: 3, extra: {} }, 3],
  ])('reads the size of %o', (options, size) => {
    expect(poolSizeOf(postgres(options))).toBe(size);
  });
});
