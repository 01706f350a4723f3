import {
  type DynamicModule,
  Inject,
  Logger,
  type MiddlewareConsumer,
  Module,
  type NestModule,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type BeforeApplicationShutdown,
} from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR, ApplicationConfig, DiscoveryModule } from '@nestjs/core';
import { IdempotencyAdmin } from './admin/idempotency.admin.js';
import { IdempotencyProblemFilter } from './http/idempotency-problem.filter.js';
import { IdempotencyEvents } from './events/idempotency-events.js';
import { IdempotencyInterceptor } from './http/idempotency.interceptor.js';
import { putOutermost } from './http/outermost.js';
import { RequestIdentityReader } from './http/request-identity.js';
import {
  type ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
  type OPTIONS_TYPE,
} from './idempotency.module-definition.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';
import { IDEMPOTENCY_RUNTIME } from './idempotency.runtime.js';
import { runtimeProvider, type StartedRuntime } from './idempotency.start.js';
import { RouteCaller } from './routes/route-caller.js';
import { RouteRegistry } from './routes/route-registry.js';

/**
 * Makes routes with `@Idempotent()` run exactly once per key. Import it once, beside `TypeOrmModule.forRoot()`; it is
 * global.
 *
 * It registers one interceptor and puts it outermost, whatever the order of imports and of
 * `app.useGlobalInterceptors()`: what is stored is what was sent, after serializers ran, so that a replay cannot show a
 * field that `@Exclude()` hides. Guards run before it, on replays too.
 */
@Module({
  imports: [DiscoveryModule],
  providers: [
    IdempotencyEvents,
    RequestIdentityReader,
    RouteCaller,
    RouteRegistry,
    runtimeProvider,
    {
      provide: IdempotencyInterceptor,
      useFactory: (runtime: StartedRuntime) => new IdempotencyInterceptor(runtime),
      inject: [IDEMPOTENCY_RUNTIME],
    },
    {
      provide: IdempotencyAdmin,
      useFactory: ({ admin }: StartedRuntime) => admin,
      inject: [IDEMPOTENCY_RUNTIME],
    },
    { provide: APP_INTERCEPTOR, useExisting: IdempotencyInterceptor },
    { provide: APP_FILTER, useClass: IdempotencyProblemFilter },
  ],
  exports: [IdempotencyEvents, IdempotencyAdmin],
})
export class IdempotencyModule
  extends ConfigurableModuleClass
  implements NestModule, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly #logger = new Logger('IdempotencyModule');

  constructor(
    @Inject(MODULE_OPTIONS_TOKEN) private readonly options: IdempotencyModuleOptions,
    @Inject(IDEMPOTENCY_RUNTIME) private readonly runtime: StartedRuntime,
    private readonly config: ApplicationConfig,
    private readonly interceptor: IdempotencyInterceptor,
  ) {
    super();
  }

  /**
   * @param options checked at start; a wrong value throws `IdempotencyConfigurationError` naming the option, what was
   *   received and the fix.
   */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    return super.forRoot(options);
  }

  /** The same with options from a factory, a class or an existing provider. */
  static override forRootAsync(options: typeof ASYNC_OPTIONS_TYPE): DynamicModule {
    return super.forRootAsync(options);
  }

  /**
   * Not for middleware: it is the one hook that Nest calls after `app.useGlobalInterceptors()` and before it makes
   * the routes, so that order and routes can be settled here.
   */
  configure(_consumer: MiddlewareConsumer): void {
    putOutermost(this.interceptor, this.config);
    this.runtime.routes.register(this.options);
  }

  onApplicationBootstrap(): void {
    const { caches, databases } = this.runtime;
    for (const warning of databases.warnings) this.#logger.warn(warning);
    caches?.start();
    databases.start();
  }

  /** While the server still answers, so that requests can be told to go elsewhere. */
  async beforeApplicationShutdown(): Promise<void> {
    const { databases, drain, settings } = this.runtime;
    const timeoutMs = settings.drainTimeoutMs;
    if (drain.size > 0) {
      this.#logger.log(
        `Shutting down: ${drain.size} requests with a key are in flight, at most ${timeoutMs} ms`,
      );
    }
    const [left] = await Promise.all([drain.drain(timeoutMs), databases.stop()]);
    if (left > 0) {
      this.#logger.warn(
        `${left} requests with a key still run after drainTimeout (${timeoutMs} ms) and are not waited for: what they do not ` +
          'commit is rolled back, and a lease runs out',
      );
    }
  }

  /** After the server has closed: what still runs then is not waited for, and loses its lease. */
  async onApplicationShutdown(): Promise<void> {
    this.runtime.databases.end();
    await this.runtime.caches?.close();
  }
}
