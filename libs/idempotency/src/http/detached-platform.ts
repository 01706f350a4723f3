import type { HttpServer } from '@nestjs/common';
import type { OpenExchange } from './detached-exchange.js';
import { expressExchanges } from './detached-express.js';
import { fastifyExchanges } from './detached-fastify.js';

/** @throws {Error} when the application runs on neither Express nor Fastify. */
export function exchangesOf(adapter: HttpServer): OpenExchange {
  const instance: unknown = adapter.getInstance();
  switch (adapter.getType()) {
    case 'express':
      return expressExchanges(instance);
    case 'fastify':
      return fastifyExchanges(instance);
    default:
      throw new Error(`requests cannot be called again on ${adapter.getType()}: only on express and fastify`);
  }
}
