import { createHash } from 'node:crypto';
import type { Session } from './session.js';
import { sqlStateOf } from './sql-state.js';
import { quoteTable } from './table-name.js';

/** Which table it is, of whatever database of the server; a table that was dropped and made again is another one. */
const TABLE = `
SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text AS database,
       to_regclass($1::text)::oid::text AS table_oid, current_database() AS name`;

/** Which server it is: the same for a primary and its standbys, and for nobody else. */
const SYSTEM = 'SELECT system_identifier::text AS system FROM pg_control_system()';

/** A table among all tables of all databases. */
export interface TableSpace {
  readonly id: string;
  /** Whether it names the server, too; else it may be that of a like table on another one. */
  readonly namesServer: boolean;
}

/** No right to ask, no such function, not supported. Any other error would give this instance a space of its own. */
const WITHHELD: readonly string[] = ['42501', '42883', '0A000'];

/**
 * Names the table among all tables of all databases in 16 hexadecimal digits, the same from whatever instance and through
 * whatever proxy: what one table's records have left in a cache must not answer for another's.
 */
export async function tableSpace(session: Session, name: string): Promise<TableSpace> {
  const { rows } = await session.query<{ database: string; table_oid: string; name: string }>({
    text: TABLE,
    values: [quoteTable(name)],
  });
  // Some services show it to nobody. What is left tells tables of one server apart; keys of the cache's own, or another
  // namespace, tell servers apart.
  const system = await session
    .query<{ system: string }>({ text: SYSTEM })
    .then(({ rows: [row] }) => row?.system ?? '')
    .catch((error: unknown) => {
      if (WITHHELD.includes(sqlStateOf(error) ?? '')) return '';
      throw error;
    });
  const parts = [system, rows[0]?.database, rows[0]?.table_oid, rows[0]?.name, name];
  const id = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
  return { id, namesServer: system !== '' };
}
