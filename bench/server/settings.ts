export const PLATFORMS = ['express', 'fastify'] as const;
export type Platform = (typeof PLATFORMS)[number];

/** Whether the library is part of the server, and with which replay cache. */
export type Protection = 'absent' | 'no cache' | 'memory' | 'redis';

/** What a server of the benchmark is started with; travels as JSON in `BENCH_SERVER`. */
export interface ServerSettings {
  readonly platform: Platform;
  readonly protection: Protection;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly poolSize: number;
  /** `pipeline` of the pool. */
  readonly pipeline: boolean;
  /** How long records are kept, and how often they are looked through; not at all when it is left out. */
  readonly records?: { readonly ttl: `${number}${'s' | 'm' | 'd'}`; readonly reapInterval: `${number}s` };
}

/** What the parent process has given this one. */
export function readSettings(): ServerSettings {
  return JSON.parse(process.env['BENCH_SERVER'] ?? '{}') as ServerSettings;
}
