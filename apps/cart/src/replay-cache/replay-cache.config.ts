/** Where copies of the answers to idempotent requests are kept. All but `none` keep the most recent in memory too. */
export type ReplayCacheChoice =
  | { readonly kind: 'none' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'redis'; readonly url: string }
  | { readonly kind: 'redis-cluster'; readonly nodes: readonly CacheNode[] }
  | { readonly kind: 'memcached'; readonly nodes: readonly CacheNode[] };

export interface CacheNode {
  readonly host: string;
  readonly port: number;
}

/** What {@link parseReplayCache} understands, for those who wrote something else. */
export const REPLAY_CACHE_FORMS =
  'use none, memory, redis://host:6379, redis-cluster://host1:6379,host2:6379 or memcached://host1:11211,host2:11211.';

/** The choice that a text stands for; `undefined` when it is none. */
export function parseReplayCache(text: string): ReplayCacheChoice | undefined {
  if (text === 'none' || text === 'memory') return { kind: text };
  if (/^rediss?:\/\//.test(text)) return URL.canParse(text) ? { kind: 'redis', url: text } : undefined;
  const [, kind, list] = /^(redis-cluster|memcached):\/\/(.+?)\/?$/.exec(text) ?? [];
  if (kind === undefined || list === undefined) return undefined;
  const nodes = list.split(',').map((address) => nodeOf(address, kind === 'memcached' ? 11_211 : 6_379));
  return nodes.every((node) => node !== undefined)
    ? { kind: kind as 'redis-cluster' | 'memcached', nodes }
    : undefined;
}

function nodeOf(address: string, defaultPort: number): CacheNode | undefined {
  const [, host, port = String(defaultPort)] = /^([\w.-]+)(?::(\d{1,5}))?$/.exec(address.trim()) ?? [];
  const number = Number(port);
  return host !== undefined && number >= 1 && number <= 65_535 ? { host, port: number } : undefined;
}
