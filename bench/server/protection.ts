import { randomBytes } from 'node:crypto';
import type { ModuleMetadata } from '@nestjs/common';
import { IdempotencyModule, type ReplayCacheOptions } from 'nestjs-pg-idempotency';
import { memoryCache } from 'nestjs-pg-idempotency/memory';
import { redisCache } from 'nestjs-pg-idempotency/redis';
import { HeldRequests } from './held-requests.js';
import { ProtectedOrdersController } from './protected-orders.controller.js';
import type { ServerSettings } from './settings.js';

/** What a server has beside the plain handlers when the library is part of it. */
export function protection({ protection: kind, redisUrl, records }: ServerSettings): ModuleMetadata {
  return {
    imports: [
      IdempotencyModule.forRoot({
        scope: false,
        ...(records ?? { reapInterval: false }),
        ...replayCacheOf(kind, redisUrl),
      }),
    ],
    controllers: [ProtectedOrdersController],
    providers: [HeldRequests],
  };
}

function replayCacheOf(
  kind: ServerSettings['protection'],
  redisUrl: string,
): { replayCache?: ReplayCacheOptions } {
  switch (kind) {
    case 'absent':
    case 'no cache':
      return {};
    case 'memory':
      return { replayCache: { memory: memoryCache() } };
    case 'redis':
      return { replayCache: { shared: redisCache({ url: redisUrl }), keys: [randomBytes(32)] } };
  }
}
