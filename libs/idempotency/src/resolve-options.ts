import { kindOf } from './databases/read-data-source.js';
import type { AttemptPolicy } from './engine/policy.js';
import { isNeverReplayed } from './http/replay-headers.js';
import type {
  DataSourceResolver,
  FingerprintResolver,
  IdempotencyModuleOptions,
  IdempotentOptions,
  KeyFormat,
  MigrationMode,
  ScopeResolver,
  StoreIf,
} from './idempotency.options.js';
import {
  check,
  checkBoolean,
  checkFunction,
  checkOneOf,
  integer,
  MAX_TIMER_MS,
  milliseconds,
} from './option-checks.js';
import { type CompleterSettings, resolveCompleter } from './resolve-completer.js';
import { resolveReplayCache, type ReplayCacheSettings } from './resolve-replay-cache.js';
import { sealingKeys } from './resolve-sealing-keys.js';
import { isTableName } from './store/table-name.js';

/** Everything a route needs, resolved: defaults filled in, durations in milliseconds. */
export interface RoutePlan {
  readonly header: string;
  readonly required: boolean;
  readonly keyFormat: KeyFormat | undefined;
  readonly scope: ScopeResolver | false | undefined;
  readonly fingerprint: FingerprintResolver | undefined;
  readonly retryAfterSeconds: number;
  readonly replayStatus: 'ok' | 'original';
  readonly storeIf: StoreIf;
  readonly maxResponseBytes: number;
  readonly replayHeaders: readonly string[];
  readonly policy: AttemptPolicy;
}

/** Everything the module needs beside its routes. */
export interface ModuleSettings {
  readonly namespace: string;
  readonly table: string;
  readonly migrations: MigrationMode;
  readonly reapIntervalMs: number | undefined;
  readonly reapBatch: number;
  readonly acquireTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly maxWaiters: number | undefined;
  /** `undefined`: off. */
  readonly completer: CompleterSettings | undefined;
  readonly encryptionKeys: readonly Buffer[] | undefined;
  /** `undefined`: none. */
  readonly replayCache: ReplayCacheSettings | undefined;
  readonly docsUrl: string;
}

const DEFAULTS = {
  mode: 'transaction',
  onAbandoned: 'retry',
  header: 'Idempotency-Key',
  required: true,
  ttl: '24h',
  maxRuntime: '60s',
  maxAttempts: 5,
  onInFlight: 'reject',
  waitTimeout: '10s',
  retryAfter: '1s',
  replayStatus: 'ok',
  storeIf: (status) => status < 500,
  maxResponseBytes: 1_048_576,
  replayHeaders: ['Location', 'ETag', 'Link', 'Content-Language', 'Content-Disposition', 'Last-Modified'],
} as const satisfies IdempotentOptions;

const DEFAULT_DOCS_URL = 'https://www.npmjs.com/package/nestjs-pg-idempotency';

/**
 * Fills in the defaults and checks every value.
 *
 * @throws {IdempotencyConfigurationError} naming the option, the value received and the fix.
 */
export function resolveRoute(options: IdempotentOptions): RoutePlan {
  const value = <K extends keyof typeof DEFAULTS>(name: K): NonNullable<IdempotentOptions[K]> =>
    options[name] ?? DEFAULTS[name];
  const header = value('header');
  check(
    typeof header === 'string' && /^[!#$%&'*+.^`|~\w-]+$/.test(header),
    'header',
    header,
    'use the name of an HTTP header',
  );
  checkBoolean('required', value('required'));
  const { keyFormat, scope, fingerprint } = options;
  check(
    keyFormat === undefined ||
      keyFormat === 'uuid' ||
      keyFormat === 'uuidv7' ||
      keyFormat instanceof RegExp ||
      typeof keyFormat === 'function',
    'keyFormat',
    keyFormat,
    "use 'uuid', 'uuidv7', a RegExp or a function",
  );
  check(
    scope === undefined || scope === false || typeof scope === 'function',
    'scope',
    scope,
    'use a function of the request, or false for one namespace shared by all callers',
  );
  checkFunction('fingerprint', fingerprint);
  const storeIf = value('storeIf');
  checkFunction('storeIf', storeIf);
  checkOneOf('mode', value('mode'), ['transaction', 'lease']);
  checkOneOf('onAbandoned', value('onAbandoned'), ['retry', 'fail']);
  checkOneOf('onInFlight', value('onInFlight'), ['reject', 'wait']);
  checkOneOf('replayStatus', value('replayStatus'), ['ok', 'original']);

  const maxRuntimeMs = milliseconds('maxRuntime', value('maxRuntime'), { min: 1, max: MAX_TIMER_MS });
  const ttlMs = milliseconds('ttl', value('ttl'), { min: 1, max: 100 * 365 * 86_400_000 });
  check(
    ttlMs >= maxRuntimeMs,
    'ttl',
    options.ttl ?? DEFAULTS.ttl,
    `use at least maxRuntime (${maxRuntimeMs} ms): a record must outlive the attempt that makes it`,
  );
  const leaseMs = milliseconds('leaseTtl', options.leaseTtl ?? Math.min(30_000, maxRuntimeMs), {
    min: options.leaseTtl === undefined ? 1 : 100,
    max: MAX_TIMER_MS,
  });
  check(
    // One for all routes may be longer than an attempt of transaction mode, which has none.
    leaseMs <= maxRuntimeMs || value('mode') === 'transaction',
    'leaseTtl',
    options.leaseTtl,
    `use at most maxRuntime (${maxRuntimeMs} ms): no attempt runs for longer`,
  );
  return {
    header: header.toLowerCase(),
    required: value('required'),
    keyFormat,
    scope,
    fingerprint,
    retryAfterSeconds: Math.max(
      1,
      Math.ceil(milliseconds('retryAfter', value('retryAfter'), { min: 0, max: MAX_TIMER_MS }) / 1000),
    ),
    replayStatus: value('replayStatus'),
    storeIf,
    maxResponseBytes: integer('maxResponseBytes', value('maxResponseBytes'), { min: 0, max: 2 ** 29 }),
    replayHeaders: headerList(value('replayHeaders')),
    policy: {
      mode: value('mode'),
      leaseMs,
      onAbandoned: value('onAbandoned'),
      ttlMs,
      maxRuntimeMs,
      maxAttempts: integer('maxAttempts', value('maxAttempts'), { min: 1, max: 1000 }),
      onInFlight: value('onInFlight'),
      // A waiting claim is given up after acquireTimeout and waitTimeout together: one timer has to hold both.
      waitTimeoutMs: milliseconds('waitTimeout', value('waitTimeout'), { min: 1, max: MAX_TIMER_MS / 2 }),
    },
  };
}

/** The module's own options, checked like a route's. */
export function resolveModule(options: IdempotencyModuleOptions): ModuleSettings {
  const { namespace = 'default', table = 'idempotency_keys', migrations = 'run', maxWaiters } = options;
  const { reapInterval = '60s', docsUrl = DEFAULT_DOCS_URL } = options;
  check(
    typeof namespace === 'string' && namespace.length >= 1 && namespace.length <= 100,
    'namespace',
    namespace,
    'use 1 to 100 characters',
  );
  check(
    isTableName(table),
    'table',
    table,
    'use a name, or schema.name, of at most 40 letters, digits and _',
  );
  checkOneOf('migrations', migrations, ['run', 'check', 'off']);
  check(URL.canParse(docsUrl), 'docsUrl', docsUrl, 'use an absolute URL');
  const encryptionKeys = sealingKeys('encryptionKeys', options.encryptionKeys);
  return {
    namespace,
    table,
    migrations,
    reapIntervalMs:
      reapInterval === false
        ? undefined
        : milliseconds('reapInterval', reapInterval, { min: 10, max: MAX_TIMER_MS / 2 }),
    reapBatch: integer('reapBatch', options.reapBatch ?? 1000, { min: 1, max: 100_000 }),
    acquireTimeoutMs: milliseconds('acquireTimeout', options.acquireTimeout ?? '10s', {
      min: 1,
      max: MAX_TIMER_MS / 4,
    }),
    drainTimeoutMs: milliseconds('drainTimeout', options.drainTimeout ?? '10s', {
      min: 0,
      max: MAX_TIMER_MS / 2,
    }),
    maxWaiters:
      maxWaiters === undefined ? undefined : integer('maxWaiters', maxWaiters, { min: 0, max: 10_000 }),
    completer: resolveCompleter(options.completer ?? false),
    encryptionKeys,
    replayCache: resolveReplayCache(options.replayCache, encryptionKeys),
    docsUrl,
  };
}

const ROUTE_OPTIONS: readonly string[] = [
  ...Object.keys(DEFAULTS),
  'keyFormat',
  'scope',
  'fingerprint',
  'leaseTtl',
];
const MODULE_OPTIONS: readonly string[] = [
  'namespace',
  'table',
  'migrations',
  'reapInterval',
  'reapBatch',
  'acquireTimeout',
  'drainTimeout',
  'maxWaiters',
  'completer',
  'encryptionKeys',
  'replayCache',
  'docsUrl',
];

/** Refuses misspelt options: a `waitTimeOut` that is silently ignored is found out in production. */
export function checkNames(options: unknown, where: string): void {
  const { dataSource } = (options ?? {}) as { dataSource?: unknown };
  const isKnown = dataSource === undefined || typeof dataSource === 'function';
  refuseOthers(options, where, [...ROUTE_OPTIONS, ...MODULE_OPTIONS, ...(isKnown ? ['dataSource'] : [])], {
    dataSource:
      "A name must be known before the options are: put it beside useFactory, not into the factory's result, where only " +
      'a function of the request may stand',
  });
}

/** The `dataSource` that a factory returned beside the other options. */
export function resolverIn({ dataSource }: IdempotencyModuleOptions): DataSourceResolver | undefined {
  return typeof dataSource === 'function' ? dataSource : undefined;
}

/** The same for a route, where an option of the module would be ignored just as silently. */
export function checkRouteNames(options: unknown, where: string): void {
  const misplaced = 'It holds for all routes: set it in IdempotencyModule.forRoot()';
  const fixes = Object.fromEntries([...MODULE_OPTIONS, 'dataSource'].map((name) => [name, misplaced]));
  refuseOthers(options, where, ROUTE_OPTIONS, fixes);
}

function refuseOthers(
  options: unknown,
  where: string,
  known: readonly string[],
  fixes: Readonly<Record<string, string>>,
): void {
  check(
    typeof options === 'object' && options !== null && !Array.isArray(options),
    where,
    options,
    'pass an object',
  );
  for (const [name, value] of Object.entries(options)) {
    const fix = Object.hasOwn(fixes, name) ? fixes[name] : undefined;
    check(
      known.includes(name),
      name,
      shown(name, value),
      fix ?? `${where} has no such option; remove it or correct its spelling`,
    );
  }
}

/** Settings of a database in the place of its name may hold a password. */
function shown(name: string, value: unknown): unknown {
  if (isSecret(name)) return ['a value that is not shown'];
  return name === 'dataSource' && typeof value === 'object' && value !== null ? kindOf(value) : value;
}

/** `encryptionKeys` where it does not belong, or misspelt: its value is no less secret. */
const isSecret = (name: string): boolean => /encrypt|secret|password|keys?$/i.test(name);

function headerList(value: readonly string[]): readonly string[] {
  check(
    Array.isArray(value) && value.every((name) => typeof name === 'string'),
    'replayHeaders',
    value,
    'use an array of header names',
  );
  const names = value.map((name) => name.toLowerCase());
  for (const name of names) {
    check(!isNeverReplayed(name), 'replayHeaders', name, 'take it out: this header must never be replayed');
  }
  return names;
}
