#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { migrationSql } from './store/migrations/migrator.js';
import { isTableName } from './store/table-name.js';

const USAGE = `Usage: nestjs-pg-idempotency sql [--table NAME]

Prints the SQL that makes the table of idempotency records, for your own migration tool.
  --table NAME   as in the module's "table" option, default idempotency_keys
`;

/** What to print, on which stream, and how to exit: 2 for arguments that make no sense, as tools do. */
function answer(args: string[]): { stream: NodeJS.WriteStream; text: string; exitCode: number } {
  const refuse = (text: string) => ({ stream: process.stderr, text, exitCode: 2 });
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        table: { type: 'string', default: 'idempotency_keys' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    return refuse(`${(error as Error).message}\n\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  if (values.help) return { stream: process.stdout, text: USAGE, exitCode: 0 };
  if (positionals.length !== 1 || positionals[0] !== 'sql') return refuse(USAGE);
  if (!isTableName(values.table)) {
    const got = JSON.stringify(values.table);
    return refuse(`--table: got ${got}; use a name, or schema.name, of at most 40 letters, digits and _\n`);
  }
  return { stream: process.stdout, text: migrationSql(values.table), exitCode: 0 };
}

const { stream, text, exitCode } = answer(process.argv.slice(2));
stream.write(text);
process.exitCode = exitCode;
