import { inject } from 'vitest';
import { adminSql } from '../../libs/idempotency/src/store/admin.sql.js';
import { idempotencySql } from '../../libs/idempotency/src/store/idempotency.sql.js';
import { leaseSql } from '../../libs/idempotency/src/store/lease.sql.js';

/** Of what the library sends, what it is called in the library. Those of lease mode and of people have that before their names. */
export function statementNames(table: string): (text: string) => string | undefined {
  const version = inject('postgresVersion');
  const names = new Map<string, string>();
  const add = (prefix: string, sql: Readonly<Record<string, string>>): void => {
    for (const [name, text] of Object.entries(sql)) if (!names.has(text)) names.set(text, prefix + name);
  };
  add('', { ...idempotencySql(table, version), ROLLBACK: 'ROLLBACK' });
  add('lease ', leaseSql(table, version));
  add('admin ', adminSql(table));
  return (text) => names.get(text);
}
