/** What a scaled-out cart consists of, in compose and locally. */
export const TOPOLOGY = {
  carts: 4,
  redisNodes: 3,
  memcachedNodes: 3,
} as const;
