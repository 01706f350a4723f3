import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

const ENTRIES = [
  'apps',
  'bench',
  'deploy',
  'libs',
  'test',
  'package.json',
  'tsconfig.json',
  'vitest.config.ts',
];

/** The tree in a folder of its own: sources copied, dependencies linked; the package itself resolves to the copy. */
export function copyTree() {
  const copy = mkdtempSync(join(tmpdir(), 'idempotency-mutants-'));
  for (const entry of ENTRIES) {
    cpSync(join(ROOT, entry), join(copy, entry), {
      recursive: true,
      filter: (path) => !/[/\\](?:dist|node_modules|\.data)(?:[/\\]|$)/.test(path.slice(ROOT.length)),
    });
  }
  mkdirSync(join(copy, 'node_modules'));
  for (const entry of readdirSync(join(ROOT, 'node_modules'))) {
    if (entry === 'nestjs-pg-idempotency' || entry.startsWith('.')) continue;
    symlinkSync(join(ROOT, 'node_modules', entry), join(copy, 'node_modules', entry));
  }
  symlinkSync('../libs/idempotency', join(copy, 'node_modules/nestjs-pg-idempotency'));
  return { folder: copy, remove: () => rmSync(copy, { recursive: true, force: true }) };
}

/** Puts a bug into the copy; returns how to take it out again, `undefined` when its text is not found. */
export function plant(copy, { file, find, replace }) {
  const path = join(copy, 'libs/idempotency/src', file);
  const original = readFileSync(path, 'utf8');
  if (!original.includes(find)) return undefined;
  writeFileSync(
    path,
    original.replace(find, () => replace),
  );
  return () => writeFileSync(path, original);
}
