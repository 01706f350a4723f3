import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIBRARY = join(ROOT, 'libs/idempotency');
const TSC = join(ROOT, 'node_modules/typescript/bin/tsc');

interface Manifest {
  readonly name: string;
  readonly dependencies: Record<string, string>;
  readonly peerDependencies: Record<string, string>;
  readonly peerDependenciesMeta: Record<string, { optional: boolean }>;
  readonly exports: Record<string, string | { types: string; default: string }>;
  readonly bin: Record<string, string>;
  readonly license: string;
}

/** The package as a clean checkout would publish it, built and packed in a folder of its own, and somebody who uses it. */
let work: string;
let consumer: string;
let files: string[];
const manifest = JSON.parse(readFileSync(join(LIBRARY, 'package.json'), 'utf8')) as Manifest;

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'idempotency-package-'));
  const clean = join(work, 'libs/idempotency');
  mkdirSync(clean, { recursive: true });
  cpSync(join(ROOT, 'tsconfig.json'), join(work, 'tsconfig.json'));
  cpSync(LIBRARY, clean, { recursive: true, filter: (path) => !/[/\\](?:dist|node_modules)$/.test(path) });
  symlinkSync(join(ROOT, 'node_modules'), join(work, 'node_modules'));
  execFileSync(process.execPath, [TSC, '-p', join(clean, 'tsconfig.lib.json')], { stdio: 'inherit' });
  const npm = (...args: string[]): string =>
    execFileSync('npm', [...args, '--json', '--ignore-scripts'], {
      cwd: clean,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  const packed = JSON.parse(npm('pack', '--pack-destination', work)) as [
    { filename: string; files: { path: string }[] },
  ];
  files = packed[0].files.map(({ path }) => path);

  // Not below `work`, whose node_modules would lend what the package does not declare.
  consumer = mkdtempSync(join(tmpdir(), 'idempotency-consumer-'));
  const installed = join(consumer, 'node_modules', manifest.name);
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(work, packed[0].filename), '-C', installed, '--strip-components=1']);
  // What the package needs, and nothing else, as an installation with strict peers would have it.
  const { dependencies, peerDependencies, peerDependenciesMeta } = manifest;
  const needed = Object.keys(peerDependencies).filter((name) => !peerDependenciesMeta[name]?.optional);
  // The types of Node.js are every TypeScript project's own.
  for (const name of [...Object.keys(dependencies), ...needed, '@types/node']) install(name);
  writeFileSync(join(consumer, 'package.json'), '{ "type": "module" }');
});
afterAll(() => {
  for (const folder of [work, consumer]) rmSync(folder, { recursive: true, force: true });
});

/** Gives the consumer a package. */
function install(name: string): void {
  const link = join(consumer, 'node_modules', name);
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules', name), link);
}

/** Gives the consumer the driver of a cache, for one test. */
function installFor<T>(name: string, use: () => T): T {
  install(name);
  try {
    return use();
  } finally {
    rmSync(join(consumer, 'node_modules', name));
  }
}

/** Compiles a file of the consumer's, as strictly as can be. */
function compile(text: string): { status: number | null; stdout: string } {
  writeFileSync(join(consumer, 'typed.ts'), text);
  writeFileSync(
    join(consumer, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        module: 'nodenext',
        target: 'ES2023',
        strict: true,
        noEmit: true,
        // Its declarations must be complete: a type that is missing shows in strict projects only.
        skipLibCheck: false,
        experimentalDecorators: true,
        types: ['node'],
      },
      files: ['typed.ts'],
    }),
  );
  return spawnSync(process.execPath, [TSC, '-p', consumer], { encoding: 'utf8' });
}

/** Runs a module in the consumer's folder and answers what it prints as JSON. */
function run<T>(script: string): T {
  const file = join(consumer, `script-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(file, script);
  return JSON.parse(execFileSync(process.execPath, [file], { encoding: 'utf8' })) as T;
}

describe('the package', () => {
  it('holds what was built, README, LICENSE and its manifest, and nothing else', () => {
    expect(files.filter((path) => !path.startsWith('dist/')).toSorted()).toEqual([
      'LICENSE',
      'README.md',
      'package.json',
    ]);
    expect(files.filter((path) => path.startsWith('dist/') && !/\.(?:js|d\.ts)$/.test(path))).toEqual([]);
    expect(files.filter((path) => /spec|\.e2e|test\b|tsbuildinfo|node_modules/.test(path))).toEqual([]);
    expect(files.length).toBeGreaterThan(80);
  });

  it('holds a type declaration for every module', () => {
    const modules = files.filter((path) => path.endsWith('.js'));
    expect(modules.filter((path) => !files.includes(path.replace(/\.js$/, '.d.ts')))).toEqual([]);
  });

  it('holds every file that its manifest points to', () => {
    const targets = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === 'string' ? [entry] : Object.values(entry),
    );
    for (const target of [...targets, ...Object.values(manifest.bin)]) {
      expect(files).toContain(target.replace(/^\.\//, ''));
    }
    expect(manifest.license).toBe('MIT');
  });

  it('says in its type declarations what an option does', () => {
    const installed = join(consumer, 'node_modules', manifest.name, 'dist');
    const options = readFileSync(join(installed, 'idempotency.options.d.ts'), 'utf8');
    expect(options).toContain('How long a final outcome is replayed');
    // Each option of every interface stands under a comment.
    const interfaces = options.match(/^export interface [\s\S]*?^}/gm)?.join('\n') ?? '';
    const members = [...interfaces.matchAll(/^ {4}(\w+)\?:/gm)].map(([, name]) => name);
    expect(members.length).toBeGreaterThan(20);
    for (const name of members) expect(options).toMatch(new RegExp(`\\*/\\n {4}${name}\\?:`));
    const decorator = readFileSync(join(installed, 'decorators/idempotent.decorator.d.ts'), 'utf8');
    expect(decorator).toContain('Makes a route idempotent');
  });

  it('is imported by its name, with what it exports, and by the entries that need no driver', () => {
    const exported = run<Record<'core' | 'testing' | 'memcached', string[]>>(
      `import 'reflect-metadata';
       import * as core from '${manifest.name}';
       import * as testing from '${manifest.name}/testing';
       import * as memcached from '${manifest.name}/memcached';
       const entries = Object.entries({ core, testing, memcached });
       console.log(JSON.stringify(Object.fromEntries(entries.map(([name, all]) => [name, Object.keys(all)]))));`,
    );
    expect(exported.core.toSorted()).toEqual(
      [
        'AdminNotBoundError',
        'AttemptSettledError',
        'CopyNotErasedError',
        'CurrentAttempt',
        'DataSourceUnresolvedError',
        'DatabaseNotPreparedError',
        'DecisionUnknownError',
        'IDEMPOTENCY_STATUS',
        'IdempotencyAdmin',
        'Idempotent',
        'IdempotencyConfigurationError',
        'IdempotencyEvents',
        'IdempotencyModule',
        'IdempotencyProblem',
        'IdempotencyRecordEntity',
        'InterleavedTransactionError',
        'JournaledError',
        'LeaseLostError',
        'LeaseModeOnlyError',
        'PhaseOutcomeUnknownError',
        'RecordInFlightError',
        'RecordNotFoundError',
        'RecordStateError',
        'RepeatedHandlerError',
        'StepNotJournaledError',
        'StepOrderError',
        'TransactionControlError',
        'UnfinishedWorkError',
        'idempotencyChannel',
        'migrationSql',
        'outsideAttempt',
      ].toSorted(),
    );
    expect(exported.testing).toEqual(['armFailpoints', 'storeContract']);
    expect(exported.memcached).toEqual(['memcachedCache']);
  });

  it('is one package to both of its entries: a failpoint armed through /testing is reached', () => {
    const reached = run<string[]>(
      `import { armFailpoints } from '${manifest.name}/testing';
       const reached = [];
       armFailpoints((point) => reached.push(point));
       const { failpoint } = await import(new URL('./node_modules/${manifest.name}/dist/failpoint.js', import.meta.url));
       failpoint('before-claim');
       console.log(JSON.stringify(reached));`,
    );
    expect(reached).toEqual(['before-claim']);
  });

  it('keeps its inner files to itself', () => {
    const codes = run<string[]>(
      `const codes = [];
       for (const path of ['dist/engine/acquire.js', 'engine/acquire', 'dist/index.js', 'cli']) {
         codes.push(await import('${manifest.name}/' + path).then(() => 'imported', ({ code }) => code));
       }
       console.log(JSON.stringify(codes));`,
    );
    expect(new Set(codes)).toEqual(new Set(['ERR_PACKAGE_PATH_NOT_EXPORTED']));
  });

  it('loads where neither Express nor Fastify nor the driver of a cache is installed', () => {
    const resolvable = [
      '@nestjs/platform-express',
      '@nestjs/platform-fastify',
      'ioredis',
      'lru-cache',
    ].filter((name) => existsSync(join(consumer, 'node_modules', name)));
    expect(resolvable).toEqual([]);
    expect(
      run<boolean>(`import 'reflect-metadata'; await import('${manifest.name}'); console.log(true);`),
    ).toBe(true);
  });

  it('is imported by /redis where ioredis is installed, and says that it is missing where it is not', () => {
    expect(
      run<string>(
        `console.log(JSON.stringify(await import('${manifest.name}/redis').catch(({ message }) => message)));`,
      ),
    ).toMatch(/Cannot find package 'ioredis'/);
    const exported = installFor('ioredis', () =>
      run<string[]>(
        `import * as redis from '${manifest.name}/redis';
         const { IdempotencyConfigurationError } = await import('${manifest.name}');
         let error;
         try { redis.redisCache({ url: 'localhost' }); } catch (thrown) { error = thrown; }
         if (!(error instanceof IdempotencyConfigurationError)) throw new Error('another error: ' + error);
         console.log(JSON.stringify(Object.keys(redis)));`,
      ),
    );
    expect(exported).toEqual(['redisCache']);
  });

  it('is imported by /memory where lru-cache is installed, and says that it is missing where it is not', () => {
    expect(
      run<string>(
        `console.log(JSON.stringify(await import('${manifest.name}/memory').catch(({ message }) => message)));`,
      ),
    ).toMatch(/Cannot find package 'lru-cache'/);
    const exported = installFor('lru-cache', () =>
      run<string[]>(
        `import * as memory from '${manifest.name}/memory';
         memory.memoryCache();
         console.log(JSON.stringify(Object.keys(memory)));`,
      ),
    );
    expect(exported).toEqual(['memoryCache']);
  });

  it('brings its command, which prints the schema', () => {
    const command = join(consumer, 'node_modules', manifest.name, Object.values(manifest.bin)[0] ?? '');
    expect(readFileSync(command, 'utf8').startsWith('#!/usr/bin/env node\n')).toBe(true);
    const { status, stdout } = spawnSync(process.execPath, [command, 'sql'], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toContain('CREATE TABLE "idempotency_keys"');
  });

  it('is typed by /redis: a setting that would queue or resend does not compile', () => {
    const { status, stdout } = installFor('ioredis', () =>
      compile(
        `import { redisCache, type RedisCacheOptions } from '${manifest.name}/redis';
         export const options: RedisCacheOptions = { url: 'redis://a:1', commandTimeout: '1s', options: { password: 'p', tls: {} } };
         redisCache({ sentinels: [{ host: 'a', port: 1 }], name: 'main' });
         redisCache({ cluster: [{ host: 'a', port: 1 }], clusterOptions: { natMap: {} } });
         // @ts-expect-error the cache's own business
         redisCache({ url: 'redis://a:1', options: { enableOfflineQueue: true } });
         // @ts-expect-error the group's name is missing
         redisCache({ sentinels: [{ host: 'a', port: 1 }] });`,
      ),
    );
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });

  it('is typed: a wrong option does not compile', () => {
    const { status, stdout } = compile(
      `import { Idempotent, IdempotencyModule, type IdempotencyEvent, type IdempotentOptions } from '${manifest.name}';
       import { armFailpoints, type ContractCase, storeContract } from '${manifest.name}/testing';
       import { memcachedCache, type MemcachedCacheOptions } from '${manifest.name}/memcached';
       export const cache: MemcachedCacheOptions = { nodes: ['cache-1:11211'], timeout: '1s' };
       export const nodeOf: string = memcachedCache(cache).nodeOf('key');
       export const module = IdempotencyModule.forRoot({ ttl: '24h', keyFormat: /^a/, dataSource: 'orders' });
       export const later = IdempotencyModule.forRootAsync({ dataSource: 'orders', useFactory: () => ({ ttl: 5 }) });
       export const options: IdempotentOptions = { scope: ({ user }) => (user as { id: string }).id };
       export const statusOf = (event: IdempotencyEvent): number => (event.type === 'completed' ? event.status : 0);
       export class Controller { @Idempotent({ maxAttempts: 3 }) add(): void {} }
       armFailpoints((point) => point === 'before-claim');
       export const cases: readonly ContractCase[] = storeContract({ database: { connectionString: 'postgres://a' }, table: 'app.keys' });
       // @ts-expect-error unit
       Idempotent({ ttl: '1 fortnight' });
       // @ts-expect-error name
       IdempotencyModule.forRoot({ waitTimeOut: '1s' });
       // @ts-expect-error an option of the module
       Idempotent({ table: 'keys' });
       // @ts-expect-error the database is missing
       storeContract({ table: 'keys' });`,
    );
    expect(stdout).toBe('');
    expect(status).toBe(0);
    expect(existsSync(join(consumer, 'typed.js'))).toBe(false);
  });
});
