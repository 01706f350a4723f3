import { describe, expect, it } from 'vitest';
import { isTableName, quoteTable, siblingName } from './table-name.js';

describe('table names', () => {
  it.each([
    ['idempotency_keys', '"idempotency_keys"', 'idempotency_keys_pkey'],
    ['other.keys', '"other"."keys"', 'keys_pkey'],
    ['Mixed.Case', '"Mixed"."Case"', 'Case_pkey'],
  ])('quotes %s, and names what stands beside it', (table, quoted, sibling) => {
    expect(isTableName(table)).toBe(true);
    expect(quoteTable(table)).toBe(quoted);
    expect(siblingName(table, '_pkey')).toBe(sibling);
  });

  it('leaves room for the longest sibling within the 63 bytes of an identifier', () => {
    const longest = 't'.repeat(40);
    expect(isTableName(longest)).toBe(true);
    expect(isTableName(`${longest}t`)).toBe(false);
    for (const suffix of [
      '_pkey',
      '_status_check',
      '_key_check',
      '_expires_at',
      '_migrations',
      '_migrations_pkey',
    ]) {
      expect(siblingName(longest, suffix).length).toBeLessThanOrEqual(63);
    }
  });

  it.each([
    '',
    '"',
    'a"b',
    "a'b",
    'a;b',
    'a b',
    'a.b.c',
    '.a',
    'a.',
    '1a',
    'ä',
    'a\n',
    'a\0',
    5,
    null,
    undefined,
    ['a'],
  ])('refuses %o', (table) => {
    expect(isTableName(table)).toBe(false);
  });
});
