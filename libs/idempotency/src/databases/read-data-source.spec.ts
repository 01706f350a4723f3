import { DataSource } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { faultOfDataSource, kindOf, nameOfDatabase } from './read-data-source.js';

const source = (options: object): DataSource => new DataSource({ type: 'postgres', ...options });

describe('kindOf', () => {
  it.each<[unknown, string]>([
    [undefined, 'undefined'],
    [null, 'null'],
    ['secret', 'a string'],
    [4711, 'a number'],
    [['secret'], 'an array'],
    [{ password: 'secret' }, 'an object of class Object'],
    [Object.assign(Object.create(null) as object, { password: 'secret' }), 'an object'],
    [new Map([['password', 'secret']]), 'an object of class Map'],
    [function secretive() {}, 'the function secretive'],
    [() => 'secret', 'a function'],
  ])('names the sort of %o, and nothing that is in it', (value, kind) => {
    expect(kindOf(value)).toBe(kind);
  });
});

describe('faultOfDataSource', () => {
  it('finds none in an initialised data source of PostgreSQL, whoever made it', () => {
    expect(faultOfDataSource(Object.assign(source({}), { isInitialized: true }))).toBeUndefined();
    const ofAnotherCopy = {
      isInitialized: true,
      options: { type: 'postgres' },
      driver: {},
      createQueryRunner: () => undefined,
    };
    expect(faultOfDataSource(ofAnotherCopy)).toBeUndefined();
  });

  it('names what else it is', () => {
    expect(faultOfDataSource(source({}))).toBe('a DataSource that is not initialised');
    expect(faultOfDataSource({ options: { type: 'postgres' } })).toBe('an object of class Object');
    expect(faultOfDataSource('postgres://')).toBe('a string');
  });
});

describe('nameOfDatabase', () => {
  it.each<[object, string]>([
    [{ url: 'postgres://me:secret@db.example:5433/orders' }, 'orders at db.example:5433'],
    [{ url: 'postgres://me:secret@[::1]:5433/orders' }, 'orders at [::1]:5433'],
    [
      { host: 'db.example', port: 5433, username: 'me', password: 'secret', database: 'orders' },
      'orders at db.example:5433',
    ],
    [{ host: '/run/postgresql', database: 'orders' }, 'orders at /run/postgresql'],
    [{ password: 'secret' }, 'without a name'],
  ])('of %o is %s', (options, name) => {
    expect(nameOfDatabase(source(options))).toBe(name);
  });
});
