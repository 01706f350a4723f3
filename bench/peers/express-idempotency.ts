import type { NextFunction, Request, Response } from 'express';
import idempotencyModule, { type IdempotencyResource } from 'express-idempotency';
import { createClient } from 'redis';

const { idempotency, getSharedIdempotencyService } = idempotencyModule;

/**
 * The middleware with its records in Redis: its own adapter keeps them in an array that is searched from the beginning. On a hit it has
 * answered, and leaves it to the application not to go on.
 */
export async function expressIdempotency(
  redisUrl: string,
): Promise<(request: Request, response: Response, next: NextFunction) => void> {
  const redis = createClient({ url: redisUrl });
  await redis.connect();
  const nameOf = (key: string): string => `express-idempotency:${key}`;
  const middleware = idempotency({
    dataAdapter: {
      findByIdempotencyKey: async (key) => {
        const found = await redis.get(nameOf(key));
        return found === null ? null : (JSON.parse(found) as IdempotencyResource);
      },
      create: async (resource) => {
        const made = await redis.set(nameOf(resource.idempotencyKey), JSON.stringify(resource), { NX: true });
        if (made === null) throw new Error('Duplicate');
      },
      update: async (resource) => {
        await redis.set(nameOf(resource.idempotencyKey), JSON.stringify(resource));
      },
      delete: async (key) => {
        await redis.del(nameOf(key));
      },
    },
  });
  return (request, response, next) => {
    void middleware(request, response, (error?: unknown) => {
      if (error !== undefined) next(error);
      else if (!getSharedIdempotencyService().isHit(request)) next();
    });
  };
}
