import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const SOURCE = fileURLToPath(new URL('../libs/idempotency/src', import.meta.url));
const MAX_LINES = 400;

interface SourceFile {
  /** Path from `src`, with `/`. */
  readonly path: string;
  readonly text: string;
}

interface Import {
  /** A path from `src` without extension, or the name of a package. */
  readonly target: string;
  readonly typeOnly: boolean;
}

const files: readonly SourceFile[] = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.spec.ts'))
  .map((path) => ({ path, text: readFileSync(join(SOURCE, path), 'utf8') }));

/** Every module that a file names: imports, re-exports, `import()` and `import('…')` types. */
function importsOf({ path, text }: SourceFile): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, typeOnly: boolean): void => {
    const target = specifier.startsWith('.')
      ? relative(SOURCE, resolve(SOURCE, dirname(path), specifier))
          .replaceAll('\\', '/')
          .replace(/\.js$/, '')
      : specifier;
    found.push({ target, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const { importClause: clause } = node;
      const named = clause?.namedBindings;
      const onlyTypes =
        clause?.phaseModifier === ts.SyntaxKind.TypeKeyword ||
        (clause !== undefined &&
          clause.name === undefined &&
          named !== undefined &&
          ts.isNamedImports(named) &&
          named.elements.every(({ isTypeOnly }) => isTypeOnly));
      add(node.moduleSpecifier.text, onlyTypes);
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      add(node.moduleSpecifier.text, node.isTypeOnly);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments;
      if (argument && ts.isStringLiteral(argument)) add(argument.text, false);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      if (ts.isStringLiteral(node.argument.literal)) add(node.argument.literal.text, true);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true));
  return found;
}

/** Rooms, and what nothing in them may import; a name ending in `/` means everything below it. */
const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  // The store knows no policy, and neither HTTP nor Nest.
  'store/': [
    'engine/',
    'http/',
    'transaction/',
    'events/',
    'reaper/',
    'routes/',
    'decorators/',
    'databases/',
    'background/',
    '@nestjs/',
    'rxjs',
  ],
  'errors/': [
    'engine/',
    'http/',
    'transaction/',
    'store/',
    'routes/',
    'decorators/',
    'reaper/',
    'typeorm',
    'pg',
  ],
  'transaction/': ['engine/', 'http/', 'routes/', 'decorators/', 'reaper/', '@nestjs/', 'rxjs'],
  // The engine knows no HTTP.
  'engine/': [
    'http/',
    'routes/',
    'decorators/',
    'reaper/',
    '@nestjs/',
    'express',
    'fastify',
    'node:http',
    'rxjs',
  ],
  // The interceptor knows no SQL.
  'http/': [
    'store/idempotency.sql',
    'store/session',
    'store/sql-state',
    'store/idempotency.store',
    'store/migrations/',
    'pg',
    'typeorm',
  ],
  // People decide about records, whoever runs them and however they came.
  'admin/': [
    'engine/',
    'http/',
    'transaction/',
    'lease/',
    'reaper/',
    'routes/',
    'decorators/',
    'sealing/',
    'typeorm',
    'pg',
    'rxjs',
  ],
  // From time to time, and so many at once: of what, it does not know.
  'background/': [
    'engine/',
    'http/',
    'store/',
    'transaction/',
    'routes/',
    'databases/',
    '@nestjs/',
    'typeorm',
    'pg',
  ],
  // What is put together per database is not of a single request.
  'databases/': ['decorators/', 'http/idempotency.interceptor', 'express', 'fastify', 'rxjs', 'pg'],
  // A cache decides nothing, and each of its drivers stands behind a subpath of its own.
  'cache/': [
    'engine/',
    'http/',
    'transaction/',
    'lease/',
    'reaper/',
    'routes/',
    'decorators/',
    'admin/',
    'store/session',
    'store/idempotency.store',
    'typeorm',
    'pg',
    'rxjs',
  ],
  'events/': ['engine/', 'http/', 'transaction/', 'store/'],
  // A shared cache is bytes under a key: it knows neither records nor requests.
  'cache/memcached/': [
    'engine/',
    'http/',
    'transaction/',
    'store/',
    'events/',
    'reaper/',
    'routes/',
    'decorators/',
    'sealing/',
    'cache/redis/',
    '@nestjs/core',
    '@nestjs/typeorm',
    'typeorm',
    'pg',
    'rxjs',
  ],
  // What holds the store to its contract knows nothing of those who use it, nor of any test runner.
  'testing/': [
    'engine/',
    'transaction/',
    'lease/',
    'routes/',
    'decorators/',
    'events/',
    'cache/',
    'admin/',
    'vitest',
    'node:test',
  ],
  'reaper/': ['engine/', 'http/', 'transaction/', 'routes/', 'decorators/'],
  // A shared cache is bytes under a key: what they are is nobody's business there.
  'cache/redis/': [
    'engine/',
    'http/',
    'transaction/',
    'store/',
    'events/',
    'lease/',
    'reaper/',
    'routes/',
    'decorators/',
    'admin/',
    'sealing/',
    'typeorm',
    'pg',
    'rxjs',
  ],
  // Sealing is bytes in, bytes out.
  'sealing/': [
    'engine/',
    'http/',
    'transaction/',
    'events/',
    'reaper/',
    'routes/',
    'decorators/',
    '@nestjs/',
    'rxjs',
    'typeorm',
    'pg',
  ],
};

/** What a room may name in types, and load nothing of. */
const NAMED_IN_TYPES: Readonly<Record<string, readonly string[]>> = {
  // Which database is meant is said by its data source.
  'admin/': ['typeorm'],
};

/** Drivers that are not everybody's, and the one room that may import each: its own entry of the package. */
const DRIVERS: Readonly<Record<string, string>> = { ioredis: 'cache/redis/' };

function strayDrivers(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((file) =>
    importsOf(file)
      .filter(({ target }) => target in DRIVERS && !file.path.startsWith(DRIVERS[target] ?? ''))
      .map(({ target }) => `${file.path} imports ${target}`),
  );
}

const lies = (target: string, rule: string): boolean =>
  rule.endsWith('/') ? target.startsWith(rule) : target === rule;

function violations(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((file) =>
    Object.entries(FORBIDDEN)
      .filter(([room]) => file.path.startsWith(room))
      .flatMap(([room, rules]) =>
        importsOf(file)
          .filter(({ target }) => rules.some((rule) => lies(target, rule)))
          .filter(({ target, typeOnly }) => !typeOnly || !NAMED_IN_TYPES[room]?.includes(target))
          .map(({ target }) => `${file.path} imports ${target}`),
      ),
  );
}

/** A statement of SQL, as it begins in a string. */
const SQL =
  /^\s*(?:SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|(?:CREATE|ALTER|DROP)\s+(?:TABLE|INDEX)|SAVEPOINT|ROLLBACK|COMMIT|BEGIN|WITH\s+\w+\s+AS)\b/;

/** SQL in the strings and templates of a file; comments are free to name it. */
function sqlIn({ path, text }: SourceFile): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const literal = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) ? node.text : undefined;
    if (literal !== undefined && SQL.test(literal)) found.push(`${path}: ${literal.trim().slice(0, 40)}`);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true));
  return found;
}

/** Files of the library that one of them loads at run time. */
function filesLoadedBy(entry: string): string[] {
  const seen = new Set<string>();
  packagesLoadedBy(entry, seen);
  return [...seen];
}

/** Packages that a file of the library loads at run time, directly or through others of its files. */
function packagesLoadedBy(entry: string, seen = new Set<string>()): Set<string> {
  const packages = new Set<string>();
  const open = [entry];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    const file = files.find(({ path }) => path === `${next}.ts`);
    if (!file) {
      packages.add(/^(?:@[^/]+\/)?[^/]+/.exec(next)?.[0] ?? next);
      continue;
    }
    open.push(...importsOf(file).flatMap(({ target, typeOnly }) => (typeOnly ? [] : [target])));
  }
  return packages;
}

describe('layers', () => {
  it('looks at every room', () => {
    const paths = files.map(({ path }) => path);
    for (const room of [...Object.keys(FORBIDDEN), ...Object.values(DRIVERS)]) {
      expect(paths).toContainEqual(expect.stringMatching(`^${room}`));
    }
    expect(files.length).toBeGreaterThan(40);
    expect(files.flatMap(importsOf).length).toBeGreaterThan(100);
  });

  it('imports in one direction: interceptor, engine, store', () => {
    expect(violations(files)).toEqual([]);
  });

  it('imports the driver of a cache in its own room only, types included', () => {
    expect(strayDrivers(files)).toEqual([]);
    const text = "import type { Redis } from 'ioredis';";
    expect(strayDrivers([{ path: 'cache/x.ts', text }])).toEqual(['cache/x.ts imports ioredis']);
    expect(strayDrivers([{ path: 'cache/redis/x.ts', text }])).toEqual([]);
  });

  it('keeps SQL out of HTTP', () => {
    const rooms = /^(?:http|events|admin|decorators|routes|errors)\//;
    expect(files.filter(({ path }) => rooms.test(path)).flatMap(sqlIn)).toEqual([]);
    expect(files.filter(({ path }) => path.startsWith('store/')).flatMap(sqlIn).length).toBeGreaterThan(10);
  });

  it(`has no file of more than ${MAX_LINES} lines`, () => {
    const long = files.filter(({ text }) => text.split('\n').length - 1 > MAX_LINES).map(({ path }) => path);
    expect(long).toEqual([]);
  });

  it('never imports in a circle at run time', () => {
    const graph = new Map(
      files.map((file) => [
        file.path.replace(/\.ts$/, ''),
        importsOf(file).flatMap(({ target, typeOnly }) => (typeOnly ? [] : [target])),
      ]),
    );
    const circles: string[] = [];
    const done = new Set<string>();
    const walk = (at: string, trail: readonly string[]): void => {
      if (trail.includes(at)) circles.push([...trail.slice(trail.indexOf(at)), at].join(' -> '));
      if (done.has(at) || trail.includes(at)) return;
      for (const next of graph.get(at) ?? []) walk(next, [...trail, at]);
      done.add(at);
    };
    for (const at of graph.keys()) walk(at, []);
    expect(circles).toEqual([]);
  });

  it('loads no driver but that of PostgreSQL, and nothing that it does not declare', () => {
    const manifest = JSON.parse(readFileSync(join(SOURCE, '../package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
      peerDependencies: Record<string, string>;
    };
    const declared = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)];
    for (const entry of ['index', 'testing/index', 'cli']) {
      const loaded = [...packagesLoadedBy(entry)].filter((name) => !name.startsWith('node:'));
      expect(loaded.filter((name) => !declared.includes(name))).toEqual([]);
      expect(
        loaded.filter((name) => /redis|memcache|swagger|opentelemetry|express|fastify/.test(name)),
      ).toEqual([]);
    }
    for (const [driver, room] of Object.entries(DRIVERS)) {
      const loaded = [...packagesLoadedBy(`${room}index`)].filter((name) => !name.startsWith('node:'));
      expect(loaded).toContain(driver);
      expect(loaded.filter((name) => !declared.includes(name))).toEqual([]);
    }
    // It speaks the protocol by itself, and is loaded by those only who use it.
    expect(
      [...packagesLoadedBy('cache/memcached/index')].filter((name) => !name.startsWith('node:')),
    ).toEqual(['@nestjs/common']);
    for (const entry of ['index', 'testing/index', 'cli']) {
      expect(filesLoadedBy(entry).filter((path) => path.startsWith('cache/memcached/'))).toEqual([]);
    }
    // The printer of SQL runs where neither Nest nor a driver is installed.
    expect([...packagesLoadedBy('cli')].filter((name) => !name.startsWith('node:'))).toEqual([]);
    expect([...packagesLoadedBy('index')]).toContain('@nestjs/common');
  });

  it.each<[string, string, string]>([
    ['store/x.ts', "import type { A } from '../engine/policy.js';", 'store/x.ts imports engine/policy'],
    ['errors/x.ts', "export * from '../http/platform.js';", 'errors/x.ts imports http/platform'],
    ['engine/x.ts', "import { Injectable } from '@nestjs/common';", 'engine/x.ts imports @nestjs/common'],
    ['engine/x.ts', "const a = await import('../http/platform.js');", 'engine/x.ts imports http/platform'],
    [
      'transaction/x.ts',
      "let a: import('../engine/policy.js').AttemptPolicy;",
      'transaction/x.ts imports engine/policy',
    ],
    [
      'http/x.ts',
      "import { idempotencySql } from '../store/idempotency.sql.js';",
      'http/x.ts imports store/idempotency.sql',
    ],
    ['admin/x.ts', "import { keyHash } from '../http/key-hash.js';", 'admin/x.ts imports http/key-hash'],
    ['admin/x.ts', "import { DataSource } from 'typeorm';", 'admin/x.ts imports typeorm'],
    [
      'store/x.ts',
      "import type { A } from '../databases/database.js';",
      'store/x.ts imports databases/database',
    ],
    [
      'cache/redis/x.ts',
      "import { seal } from '../../sealing/seal.js';",
      'cache/redis/x.ts imports sealing/seal',
    ],
    ['sealing/x.ts', "import { sha256Of } from '../http/sha256.js';", 'sealing/x.ts imports http/sha256'],
    [
      'cache/memcached/x.ts',
      "import { seal } from '../../sealing/seal.js';",
      'cache/memcached/x.ts imports sealing/seal',
    ],
  ])('finds the wrong import in %s: %s', (path, text, violation) => {
    expect(violations([{ path, text }])).toEqual([violation]);
  });

  it('finds SQL in strings, and not in comments', () => {
    const text =
      '// SELECT 1 FROM t\nconst a = `DELETE FROM ${b}`; const c = "UPDATE t SET d = 1"; const e = "Update it.";';
    expect(sqlIn({ path: 'http/x.ts', text })).toEqual([
      'http/x.ts: DELETE FROM',
      'http/x.ts: UPDATE t SET d = 1',
    ]);
  });
});
