import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import type { IdempotencyModuleOptions, IdempotentOptions } from './idempotency.options.js';
import { checkNames, checkRouteNames, resolveModule, resolveRoute } from './resolve-options.js';

/** Node's and PostgreSQL's timers hold no more; a longer one fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

function faultOf(act: () => unknown): IdempotencyConfigurationError {
  try {
    act();
  } catch (error) {
    if (error instanceof IdempotencyConfigurationError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Options as plain JavaScript may pass them. */
const route = (options: object) => resolveRoute(options);
const module = (options: object) => resolveModule(options);

describe('resolveRoute', () => {
  it('fills in the documented defaults', () => {
    const { storeIf, ...plan } = resolveRoute({});
    expect(plan).toEqual({
      header: 'idempotency-key',
      required: true,
      keyFormat: undefined,
      scope: undefined,
      fingerprint: undefined,
      retryAfterSeconds: 1,
      replayStatus: 'ok',
      maxResponseBytes: 1_048_576,
      replayHeaders: ['location', 'etag', 'link', 'content-language', 'content-disposition', 'last-modified'],
      policy: {
        mode: 'transaction',
        leaseMs: 30_000,
        onAbandoned: 'retry',
        ttlMs: 86_400_000,
        maxRuntimeMs: 60_000,
        maxAttempts: 5,
        onInFlight: 'reject',
        waitTimeoutMs: 10_000,
      },
    });
    expect([200, 302, 404, 499, 500, 503].map((status) => storeIf(status, undefined))).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it('treats undefined as not set', () => {
    const unset = Object.fromEntries(
      ['header', 'required', 'ttl', 'maxRuntime', 'maxAttempts', 'storeIf', 'replayHeaders'].map((name) => [
        name,
        undefined,
      ]),
    );
    expect({ ...route(unset), storeIf: null }).toEqual({ ...resolveRoute({}), storeIf: null });
  });

  const wrong: [option: string, value: unknown, received: string, fix: RegExp][] = [
    ['ttl', '1 fortnight', "'1 fortnight'", /'30s', '5m', '24h'/],
    ['ttl', Number.NaN, 'NaN', /milliseconds/],
    ['ttl', -1, '-1', /from 1 ms/],
    ['ttl', 0, '0', /from 1 ms/],
    ['ttl', '101000d', "'101000d'", /to \d+ ms/],
    ['ttl', 5n, '5n', /milliseconds/],
    ['ttl', '59s', "'59s'", /at least maxRuntime \(60000 ms\)/],
    ['maxRuntime', '0ms', "'0ms'", /from 1 ms/],
    ['maxRuntime', '25d', "'25d'", /to 2147483647 ms/],
    ['maxRuntime', Number.POSITIVE_INFINITY, 'Infinity', /milliseconds/],
    ['waitTimeout', 0, '0', /from 1 ms/],
    ['waitTimeout', '25d', "'25d'", /milliseconds/],
    ['retryAfter', '-1s', "'-1s'", /milliseconds/],
    ['maxAttempts', 0, '0', /integer from 1 to 1000/],
    ['maxAttempts', 1001, '1001', /integer from 1 to 1000/],
    ['maxAttempts', 1.5, '1.5', /integer/],
    ['maxAttempts', '5', "'5'", /integer/],
    ['maxAttempts', Number.NaN, 'NaN', /integer/],
    ['maxResponseBytes', -1, '-1', /integer from 0/],
    ['maxResponseBytes', '1mb', "'1mb'", /integer/],
    ['maxResponseBytes', 2 ** 29 + 1, '536870913', /to 536870912/],
    ['header', '', "''", /name of an HTTP header/],
    ['header', 'Idempotency Key', "'Idempotency Key'", /name of an HTTP header/],
    ['header', 'Schlüssel', "'Schlüssel'", /name of an HTTP header/],
    ['header', 'a\r\nb', "'a\\r\\nb'", /name of an HTTP header/],
    ['header', 5, '5', /name of an HTTP header/],
    ['required', 'no', "'no'", /true or false/],
    ['keyFormat', 5, '5', /'uuid', 'uuidv7', a RegExp or a function/],
    ['keyFormat', 'uuidv4', "'uuidv4'", /'uuid', 'uuidv7', a RegExp or a function/],
    ['keyFormat', null, 'null', /'uuid', 'uuidv7', a RegExp or a function/],
    ['scope', true, 'true', /false for one namespace/],
    ['scope', 'user', "'user'", /function of the request/],
    ['scope', null, 'null', /function of the request/],
    ['fingerprint', 'body', "'body'", /a function/],
    ['storeIf', 500, '500', /a function/],
    ['mode', 'leased', "'leased'", /'transaction' or 'lease'/],
    ['mode', true, 'true', /'transaction' or 'lease'/],
    ['onAbandoned', 'skip', "'skip'", /'retry' or 'fail'/],
    ['onAbandoned', false, 'false', /'retry' or 'fail'/],
    ['leaseTtl', 0, '0', /from 100 ms/],
    ['leaseTtl', '99ms', "'99ms'", /from 100 ms/],
    ['leaseTtl', '25d', "'25d'", /to 2147483647 ms/],
    ['leaseTtl', 'short', "'short'", /milliseconds/],
    ['onInFlight', 'queue', "'queue'", /'reject' or 'wait'/],
    ['replayStatus', 200, '200', /'ok' or 'original'/],
    ['replayHeaders', 'Location', "'Location'", /array of header names/],
    ['replayHeaders', [5], '[ 5 ]', /array of header names/],
    ['replayHeaders', ['Location', 'Set-Cookie'], "'set-cookie'", /must never be replayed/],
    ['replayHeaders', ['SET-COOKIE'], "'set-cookie'", /must never be replayed/],
    ['replayHeaders', ['Authorization'], "'authorization'", /must never be replayed/],
    ['replayHeaders', ['Proxy-Anything'], "'proxy-anything'", /must never be replayed/],
    ['replayHeaders', ['Content-Length'], "'content-length'", /must never be replayed/],
  ];
  it.each(wrong)('refuses %s: %o, naming option, value and fix', (option, value, received, fix) => {
    const fault = faultOf(() => route({ [option]: value }));
    expect(fault.option).toBe(option);
    expect(fault.message.startsWith(`${option}: received ${received}. `)).toBe(true);
    expect(fault.message).toMatch(fix);
    expect(fault.message).toMatch(/\.$/);
  });

  it.each<IdempotentOptions>([
    { ttl: '60s', maxRuntime: '60s' },
    { ttl: 1, maxRuntime: 1 },
    { retryAfter: 0 },
    { maxResponseBytes: 0 },
    { maxAttempts: 1 },
    { maxAttempts: 1000 },
    { scope: false },
    { mode: 'lease', onAbandoned: 'fail' },
    { leaseTtl: 100 },
    { leaseTtl: '60s' },
    { leaseTtl: '25s', maxRuntime: '25s' },
    { keyFormat: 'uuidv7' },
    { keyFormat: /^[a-z]+$/ },
    { header: 'X-Request-Id' },
    { replayHeaders: [] },
  ])('accepts %o', (options) => {
    expect(() => resolveRoute(options)).not.toThrow();
  });

  it.each([
    [{}, 30_000],
    [{ maxRuntime: '30s' }, 30_000],
    [{ maxRuntime: '29s' }, 29_000],
    [{ maxRuntime: 1 }, 1],
    [{ leaseTtl: '5s' }, 5_000],
    [{ leaseTtl: 100.5 }, 101],
    [{ leaseTtl: '2m', maxRuntime: '2m' }, 120_000],
  ] as const)('leases for 30 s, or for maxRuntime where that is shorter: %o is %d ms', (options, leaseMs) => {
    expect(resolveRoute(options).policy.leaseMs).toBe(leaseMs);
  });

  it('refuses a lease that is longer than a shorter maxRuntime', () => {
    const times = { leaseTtl: '20s', maxRuntime: '10s' } as const;
    const fault = faultOf(() => resolveRoute({ mode: 'lease', ...times }));
    expect(fault.message).toBe(
      "leaseTtl: received '20s'. Use at most maxRuntime (10000 ms): no attempt runs for longer.",
    );
    // One for the whole module, where this route has no lease.
    expect(resolveRoute(times).policy.mode).toBe('transaction');
  });

  it.each([
    [0, 1],
    [1, 1],
    ['1001ms', 2],
    ['1.5s', 2],
    ['2m', 120],
  ] as const)('answers Retry-After %o in whole seconds: %d', (retryAfter, seconds) => {
    expect(resolveRoute({ retryAfter }).retryAfterSeconds).toBe(seconds);
  });

  it('resolves any accepted time to whole milliseconds within its bounds', () => {
    fc.assert(
      fc.property(fc.double({ min: 1, max: LONGEST_TIMER_MS, noNaN: true }), (maxRuntime) => {
        const { policy } = resolveRoute({ maxRuntime, ttl: '100d' });
        expect(Number.isInteger(policy.maxRuntimeMs)).toBe(true);
        expect(policy.maxRuntimeMs).toBeGreaterThanOrEqual(maxRuntime);
        expect(policy.maxRuntimeMs).toBeLessThanOrEqual(LONGEST_TIMER_MS);
        expect(policy.ttlMs).toBeGreaterThanOrEqual(policy.maxRuntimeMs);
      }),
    );
  });

  it('accepts no pair of times whose sum overruns a timer, which would then fire at once', () => {
    // A waiting claim is given up after acquireTimeout + waitTimeout.
    const longest = (accepts: (milliseconds: number) => unknown): number => {
      let low = 1;
      let high = LONGEST_TIMER_MS;
      while (low < high) {
        const middle = Math.ceil((low + high) / 2);
        try {
          accepts(middle);
          low = middle;
        } catch {
          high = middle - 1;
        }
      }
      return low;
    };
    const waitTimeout = longest((ms) => resolveRoute({ waitTimeout: ms }));
    const acquireTimeout = longest((ms) => resolveModule({ acquireTimeout: ms }));
    expect(waitTimeout + acquireTimeout).toBeLessThanOrEqual(LONGEST_TIMER_MS);
    expect(waitTimeout).toBeGreaterThan(86_400_000);
  });
});

describe('resolveModule', () => {
  it('fills in the documented defaults', () => {
    expect(resolveModule({})).toEqual({
      namespace: 'default',
      table: 'idempotency_keys',
      migrations: 'run',
      reapIntervalMs: 60_000,
      reapBatch: 1000,
      acquireTimeoutMs: 10_000,
      drainTimeoutMs: 10_000,
      maxWaiters: undefined,
      completer: undefined,
      encryptionKeys: undefined,
      docsUrl: expect.stringMatching(/^https:\/\//) as string,
    });
    expect(resolveModule({ reapInterval: false }).reapIntervalMs).toBeUndefined();
  });

  const wrong: [option: string, value: unknown, received: string, fix: RegExp][] = [
    ['namespace', '', "''", /1 to 100 characters/],
    ['namespace', 'n'.repeat(101), "'nnn", /1 to 100 characters/],
    ['namespace', 5, '5', /1 to 100 characters/],
    ['table', 'keys"; DROP TABLE carts; --', 'DROP', /letters, digits and _/],
    ['table', "o'keys", `"o'keys"`, /letters, digits and _/],
    ['table', 'a.b.c', "'a.b.c'", /schema\.name/],
    ['table', '.keys', "'.keys'", /schema\.name/],
    ['table', 'public.', "'public.'", /schema\.name/],
    ['table', '1keys', "'1keys'", /letters, digits and _/],
    ['table', 'two words', "'two words'", /letters, digits and _/],
    ['table', 'schlüssel', "'schlüssel'", /letters, digits and _/],
    ['table', 't'.repeat(41), "'ttt", /at most 40/],
    ['table', '', "''", /letters/],
    ['table', 'keys\n', "'keys\\n'", /letters/],
    ['table', ['keys'], "[ 'keys' ]", /letters/],
    ['migrations', 'auto', "'auto'", /'run' or 'check' or 'off'/],
    ['migrations', true, 'true', /'run'/],
    ['reapInterval', '5ms', "'5ms'", /from 10 ms/],
    ['reapInterval', true, 'true', /milliseconds/],
    ['reapInterval', 'never', "'never'", /milliseconds/],
    ['reapInterval', '20d', "'20d'", /milliseconds/],
    ['reapBatch', 0, '0', /integer from 1 to 100000/],
    ['reapBatch', 100_001, '100001', /integer from 1 to 100000/],
    ['acquireTimeout', 0, '0', /from 1 ms/],
    ['acquireTimeout', 'soon', "'soon'", /milliseconds/],
    ['drainTimeout', -1, '-1', /from 0 ms/],
    ['maxWaiters', -1, '-1', /integer from 0/],
    ['maxWaiters', 0.5, '0.5', /integer from 0/],
    ['docsUrl', 'docs', "'docs'", /absolute URL/],
    ['docsUrl', '/docs', "'/docs'", /absolute URL/],
    ['docsUrl', 5, '5', /absolute URL/],
  ];
  it.each(wrong)('refuses %s: %o, naming option, value and fix', (option, value, received, fix) => {
    const fault = faultOf(() => module({ [option]: value }));
    expect(fault.option).toBe(option);
    expect(fault.message.startsWith(`${option}: received `)).toBe(true);
    expect(fault.message).toContain(received);
    expect(fault.message).toMatch(fix);
  });

  it('resolves the completer, and is off with undefined', () => {
    expect(resolveModule({ completer: true }).completer).toMatchObject({ graceMs: 60_000 });
    expect(resolveModule({ completer: { after: '10s' } }).completer).toMatchObject({ graceMs: 10_000 });
    expect(module({ completer: undefined }).completer).toBeUndefined();
    expect(faultOf(() => module({ completer: { after: 'soon' } })).option).toBe('completer.after');
  });

  const KEY = 'c0ffee00'.repeat(8);

  it('reads the encryption keys, in their order', () => {
    const other = Buffer.alloc(32, 9);
    expect(resolveModule({ encryptionKeys: [KEY, other] }).encryptionKeys).toEqual([
      Buffer.from(KEY, 'hex'),
      other,
    ]);
  });

  it.each<[string, unknown, RegExp]>([
    ['a key that is no list', KEY, /received 'string'.*an array of 1 to 16 keys/],
    [
      'a key in bytes that is no list',
      Buffer.from(KEY, 'hex'),
      /received 'object'.*an array of 1 to 16 keys/,
    ],
    ['none', [], /0 keys that are not shown.*an array of 1 to 16 keys/],
    ['null', null, /received 'object'.*an array/],
    [
      'one that is cut short',
      [KEY.slice(1)],
      /1 keys that are not shown.*Key 1 of 1 is a text of 63 characters/,
    ],
    ['one that is mistyped', [KEY, `${KEY.slice(1)}x`], /2 keys that are not shown.*Key 2 of 2/],
    ['the same twice', [KEY, KEY.toUpperCase()], /Key 2 of 2 is the same as key 1/],
    ['one of zeros', [Buffer.alloc(32)], /all zeros/],
  ])('refuses %s for encryptionKeys, and shows nothing of a key', (_what, encryptionKeys, message) => {
    const fault = faultOf(() => module({ encryptionKeys }));
    expect(fault.option).toBe('encryptionKeys');
    expect(fault.message).toMatch(message);
    expect(`${fault.message} ${fault.stack}`.toLowerCase()).not.toMatch(/c0ffee|c0 ff ee|192, 255/);
  });

  it.each(['keys', 'other.keys', '_k', 'Keys_2', `${'s'.repeat(40)}.${'t'.repeat(40)}`])(
    'accepts the table %s',
    (table) => {
      expect(resolveModule({ table }).table).toBe(table);
    },
  );

  it('never accepts a table name that quoting does not hold', () => {
    fc.assert(
      fc.property(fc.string(), (table) => {
        let accepted = true;
        try {
          resolveModule({ table });
        } catch {
          accepted = false;
        }
        expect(accepted).toBe(
          /^(?:[A-Za-z_][A-Za-z0-9_]{0,39}\.)?[A-Za-z_][A-Za-z0-9_]{0,39}$/.test(table) && !/\s/.test(table),
        );
      }),
    );
  });
});

describe('checkNames', () => {
  const anyModuleOption: IdempotencyModuleOptions = {
    header: 'x',
    keyFormat: 'uuid',
    scope: false,
    fingerprint: () => 1,
    namespace: 'n',
    table: 't',
    migrations: 'off',
    reapInterval: false,
    reapBatch: 1,
    acquireTimeout: 1,
    drainTimeout: 0,
    maxWaiters: 1,
    completer: true,
    encryptionKeys: [],
    replayCache: {},
    docsUrl: 'https://docs.example',
    mode: 'lease',
    leaseTtl: 100,
    onAbandoned: 'fail',
    waitTimeout: 1,
    maxResponseBytes: 0,
  };

  it('accepts every option of the module', () => {
    expect(() => checkNames(anyModuleOption, 'IdempotencyModule.forRoot()')).not.toThrow();
  });

  it.each(['waitTimeOut', 'TTL', 'lockTimeout', 'constructor', 'toString', '__proto__x'])(
    'refuses the unknown option %s, naming where it stands',
    (name) => {
      const fault = faultOf(() => checkNames({ [name]: 5 }, 'IdempotencyModule.forRoot()'));
      expect(fault.message).toBe(
        `${name}: received 5. IdempotencyModule.forRoot() has no such option; remove it or correct its spelling.`,
      );
    },
  );

  it.each(['encryptionKey', 'encryptionkeys', 'EncryptionKeys', 'sealingKeys', 'encryption', 'secret'])(
    'shows nothing of a key under the misspelt option %s',
    (name) => {
      for (const value of ['c0ffee00', ['c0ffee00'], { current: 'c0ffee00' }]) {
        const { message } = faultOf(() => checkNames({ [name]: value }, 'IdempotencyModule.forRoot()'));
        expect(message).toContain('a value that is not shown');
        expect(message).toContain('correct its spelling');
        expect(message).not.toContain('c0ffee');
      }
    },
  );

  it('shows nothing of a key on a route, where it has no effect', () => {
    const { message } = faultOf(() => checkRouteNames({ encryptionKeys: ['c0ffee00'] }, '@Idempotent()'));
    expect(message).toContain('IdempotencyModule.forRoot()');
    expect(message).not.toContain('c0ffee');
  });

  it('says where the data source belongs when the options of a factory name it', () => {
    const fault = faultOf(() => checkNames({ dataSource: 'orders' }, 'IdempotencyModule.forRoot()'));
    expect(fault.message).toContain("dataSource: received 'orders'.");
    expect(fault.message).toContain('beside useFactory');
  });

  it.each([
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
    'dataSource',
  ])('refuses %s on a route, where it would have no effect', (name) => {
    const fault = faultOf(() => checkRouteNames({ [name]: 'x' }, '@Idempotent()'));
    expect(fault.option).toBe(name);
    expect(fault.message).toContain('IdempotencyModule.forRoot()');
  });

  it.each([
    'mode',
    'leaseTtl',
    'onAbandoned',
    'header',
    'required',
    'keyFormat',
    'scope',
    'fingerprint',
    'ttl',
    'maxRuntime',
    'maxAttempts',
    'onInFlight',
    'waitTimeout',
    'retryAfter',
    'replayStatus',
    'storeIf',
    'maxResponseBytes',
    'replayHeaders',
  ])('accepts %s on a route', (name) => {
    expect(() => checkRouteNames({ [name]: undefined }, '@Idempotent()')).not.toThrow();
  });

  it.each([null, undefined, 'options', 5, []])('refuses %o in place of options', (options) => {
    expect(faultOf(() => checkNames(options, '@Idempotent()')).message).toContain('Pass an object.');
  });
});
