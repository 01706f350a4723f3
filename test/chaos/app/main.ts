// One instance of the application under chaos, in a process of its own: told by its driver what to do, and gone with it.
import { type DynamicModule, type INestApplication, Module } from '@nestjs/common';
import { APP_GUARD, NestFactory } from '@nestjs/core';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule, type ReplayCacheOptions } from 'nestjs-pg-idempotency';
import { memoryCache } from 'nestjs-pg-idempotency/memory';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { Ledger } from './ledger.js';
import { LedgerController } from './ledger.controller.js';
import type { Command, Report, Stats } from './messages.js';
import { PROVIDER_URL, ProviderClient } from './provider.client.js';
import { calmDown, sabotage, witness } from './sabotage.js';
import { type CacheSettings, type InstanceSettings, readSettings } from './settings.js';

@Module({})
class ChaosModule {}

async function chaosModule(settings: InstanceSettings): Promise<DynamicModule> {
  return {
    module: ChaosModule,
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        // Otherwise TypeORM looks for it at run time, beside the bundle.
        driver: pg,
        url: settings.databaseUrl,
        poolSize: settings.poolSize,
        extra: { pipeline: true },
        retryAttempts: 60,
        retryDelay: 250,
      }),
      IdempotencyModule.forRoot({
        maxRuntime: settings.maxRuntime,
        leaseTtl: settings.leaseTtl,
        replayCache: await replayCacheOf(settings.cache),
      }),
    ],
    controllers: [LedgerController],
    providers: [
      Ledger,
      ProviderClient,
      { provide: PROVIDER_URL, useValue: settings.providerUrl },
      { provide: APP_GUARD, useValue: witness },
    ],
  };
}

const report = (message: Report): void => void process.send?.(message);

/** Resolves when it listens. No `await` outside: what starts fast is no module that could wait (see `launch.cts`). */
export async function start(): Promise<void> {
  const settings = readSettings();
  const app: INestApplication = await NestFactory.create(
    await chaosModule(settings),
    await adapterOf(settings.platform),
    { logger: ['fatal'] },
  );
  await app.listen(settings.port, '127.0.0.1');
  process.on('disconnect', () => process.exit());
  process.on('message', (command: Command) => {
    switch (command.kind) {
      case 'sabotage':
        sabotage(command, report);
        return report({ kind: 'armed', key: command.key });
      case 'disarm':
        return calmDown();
      case 'serve':
        return;
      case 'stats':
        return report(statsOf(app.get<DataSource>(getDataSourceToken())));
      default:
        command satisfies never;
    }
  });
  report({ kind: 'listening' });
}

function statsOf(dataSource: DataSource): Stats {
  const { master } = dataSource.driver as unknown as { master: { totalCount: number; waitingCount: number } };
  return {
    kind: 'stats',
    residentBytes: process.memoryUsage.rss(),
    poolConnections: master.totalCount,
    waitingForConnections: master.waitingCount,
    timers: process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length,
  };
}

/** Only what is used is loaded: an instance starts hundreds of times in a run. */
async function adapterOf(platform: 'express' | 'fastify') {
  if (platform === 'express') return new (await import('@nestjs/platform-express')).ExpressAdapter();
  return new (await import('@nestjs/platform-fastify')).FastifyAdapter();
}

async function replayCacheOf(cache: CacheSettings): Promise<ReplayCacheOptions> {
  const memory = memoryCache();
  switch (cache.kind) {
    case 'redis': {
      const { redisCache } = await import('nestjs-pg-idempotency/redis');
      return { memory, shared: redisCache({ url: cache.url }), keys: [cache.key] };
    }
    case 'memcached': {
      const { memcachedCache } = await import('nestjs-pg-idempotency/memcached');
      return { memory, shared: memcachedCache({ nodes: [cache.node] }), keys: [cache.key] };
    }
  }
}
