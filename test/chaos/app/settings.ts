/** What an instance is started with; travels as JSON in `CHAOS_INSTANCE`. */
export interface InstanceSettings {
  readonly port: number;
  readonly platform: 'express' | 'fastify';
  /** Through the fault proxy of this instance. */
  readonly databaseUrl: string;
  readonly providerUrl: string;
  readonly cache: CacheSettings;
  readonly poolSize: number;
  readonly maxRuntime: `${number}ms`;
  readonly leaseTtl: `${number}ms`;
}

/** The tier that instances share, behind the memory of each. */
export type CacheSettings =
  | { readonly kind: 'redis'; readonly url: string; readonly key: string }
  | { readonly kind: 'memcached'; readonly node: string; readonly key: string };

/** What the process that started this one has given it. */
export function readSettings(): InstanceSettings {
  return JSON.parse(process.env['CHAOS_INSTANCE'] ?? '{}') as InstanceSettings;
}
