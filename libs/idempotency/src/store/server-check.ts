import type { Session } from './session.js';
import { sqlStateOf } from './sql-state.js';
import { quoteTable, stepsTable } from './table-name.js';

const SERVER_FACTS = `
SELECT current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS standby,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('default_transaction_read_only') AS read_only,
       current_setting('client_min_messages') AS messages,
       pg_backend_pid() AS backend,
       to_regclass($1::text) IS NULL AS keys_missing,
       to_regclass($2::text) IS NULL AS steps_missing,
       (SELECT oid::regclass::text FROM pg_class
         WHERE relpersistence = 'u'
           AND (oid IN (to_regclass($1::text), to_regclass($2::text))
                -- A table that somebody has partitioned is itself none that a crash could empty.
                OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1::text)))
                OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($2::text))))
         ORDER BY oid LIMIT 1) AS unlogged`;

/** Asked first and alone: another engine may not know what else is asked. Without what it was built for and by. */
const ENGINE = `SELECT substring(version() FROM '^(.*?)(?: \\(| on |$)') AS engine`;
/** They speak PostgreSQL's protocol, and have no `xmax`. */
const OTHER_ENGINES = /CockroachDB|-YB-/;
/** What LOCK reads of a row. No record has an empty hash. */
const rowHeader = (table: string): string => `SELECT xmin, xmax FROM ${table} WHERE key_hash = ''`;
/** There is no such column, or the engine does not support it. */
const NO_ROW_HEADER: readonly (string | undefined)[] = ['42703', '0A000'];

interface ServerRow {
  readonly [column: string]: unknown;
  readonly version: number;
  readonly standby: boolean;
  readonly fsync: string;
  readonly full_page_writes: string;
  readonly synchronous_commit: string;
  readonly read_only: string;
  readonly messages: string;
  readonly backend: number;
  readonly keys_missing: boolean;
  readonly steps_missing: boolean;
  /** A table, or a partition of one, that a crash empties. */
  readonly unlogged: string | null;
}

/** What the server is, and settings of it that take promises back. */
export interface ServerFacts {
  readonly version: number;
  /** The table that is not there, quoted. */
  readonly missingTable: string | undefined;
  /** Whether connections lead to one backend each, and not to a pooler, which answers with another number than the backend's. */
  readonly isDirect: boolean;
  /** Why no execution can be safe on it at all, if so: what was found, and the fix. */
  readonly unusable: { readonly found: string; readonly fix: string } | undefined;
  /** Settings under which an acknowledged effect, and the record of it, may be lost when the server crashes. */
  readonly warnings: readonly string[];
}

/** Looks at the server, at the table of that name and at its journal. */
export async function checkServer(session: Session, name: string): Promise<ServerFacts> {
  const [table, steps] = [quoteTable(name), quoteTable(stepsTable(name))] as const;
  const [{ engine } = { engine: '' }] = (await session.query<{ engine: string }>({ text: ENGINE })).rows;
  const foreign = (found: string): ServerFacts['unusable'] => ({
    found,
    fix: 'Use PostgreSQL, and a table, partitioned or not: an abandoned record is told by its xmax.',
  });
  if (OTHER_ENGINES.test(engine)) {
    return { version: 0, missingTable: undefined, isDirect: false, unusable: foreign(engine), warnings: [] };
  }
  const { rows } = await session.query<ServerRow>({ text: SERVER_FACTS, values: [table, steps] });
  const row = rows[0] as ServerRow;
  const warnings: string[] = [];
  if (row.fsync === 'off' || row.full_page_writes === 'off') {
    warnings.push(
      'fsync or full_page_writes is off: a crash of the server may lose or damage committed rows',
    );
  }
  if (row.synchronous_commit === 'off') {
    warnings.push(
      'synchronous_commit is off: a crash of the server may lose effects that were answered with success',
    );
  }
  if (row.messages === 'error') {
    warnings.push(
      'client_min_messages is error: a commit that PostgreSQL has stopped to replicate synchronously is taken for a replicated one',
    );
  }
  if (row.read_only === 'on')
    warnings.push('default_transaction_read_only is on: every keyed request is answered 503');
  const missingTable = row.keys_missing ? table : row.steps_missing ? steps : undefined;
  let unusable = unusableBy(row);
  if (!unusable && missingTable === undefined) {
    await session.query({ text: rowHeader(table) }).catch((error: unknown) => {
      if (!NO_ROW_HEADER.includes(sqlStateOf(error))) throw error;
      unusable = foreign(`rows without xmin and xmax, of ${engine}`);
    });
  }
  const { processID } = session.client as { processID?: number };
  return { version: row.version, missingTable, isDirect: processID === row.backend, unusable, warnings };
}

function unusableBy({ version, standby, unlogged }: ServerRow): ServerFacts['unusable'] {
  if (version < 130000) return { found: `PostgreSQL ${version}`, fix: 'Use PostgreSQL 13 or later.' };
  if (standby) {
    return { found: 'a read-only standby (pg_is_in_recovery)', fix: 'Use the primary: a replica is behind.' };
  }
  if (unlogged !== null) {
    return {
      found: 'an UNLOGGED table',
      fix: `A crash of the server empties it: ALTER TABLE ${unlogged} SET LOGGED.`,
    };
  }
  return undefined;
}
