import { ConfigurableModuleBuilder, type FactoryProvider } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { kindOf } from './databases/read-data-source.js';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import type { DataSourceResolver, IdempotencyModuleOptions } from './idempotency.options.js';

export const IDEMPOTENCY_DATA_SOURCE = Symbol('IDEMPOTENCY_DATA_SOURCE');

/**
 * What must be known before the options are: an asynchronous factory cannot decide what is injected. A function injects
 * nothing, and may come from the factory as well.
 */
export type StructuralOptions = Pick<IdempotencyModuleOptions, 'dataSource'>;

/** The option as far as it is known before the others are. */
export type DeclaredDataSource =
  | { readonly kind: 'function'; readonly resolve: DataSourceResolver }
  | { readonly kind: 'named'; readonly name: string | undefined; readonly found: DataSource | undefined };

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<IdempotencyModuleOptions>({
    moduleName: 'Idempotency',
  })
    .setClassMethodName('forRoot')
    .setFactoryMethodName('createIdempotencyOptions')
    .setExtras<StructuralOptions>({ dataSource: undefined }, (definition, { dataSource }) => ({
      ...definition,
      global: true,
      providers: [...(definition.providers ?? []), dataSourceProvider(dataSource)],
    }))
    .build();

/** The data source of that name, if there is one: whether there must be is known with the options. */
function dataSourceProvider(
  declared: string | DataSourceResolver | undefined,
): FactoryProvider<DeclaredDataSource> {
  const provide = IDEMPOTENCY_DATA_SOURCE;
  if (typeof declared === 'function') {
    return { provide, useFactory: () => ({ kind: 'function', resolve: declared }) };
  }
  if (declared !== undefined && (typeof declared !== 'string' || declared === '')) {
    throw fault(
      // Never its content: it may be settings with a password in them.
      typeof declared === 'object' && declared !== null ? kindOf(declared) : declared,
      'Use the name that TypeOrmModule.forRoot({ name }) has, a function of the request that returns its DataSource, or leave ' +
        'it out for the default data source.',
    );
  }
  return {
    provide,
    inject: [{ token: getDataSourceToken(declared), optional: true }],
    useFactory: (found: DataSource | undefined) => ({ kind: 'named', name: declared, found }),
  };
}

/**
 * The one data source for all requests, or the function that chooses one.
 *
 * @param ofFactory what the factory of `forRootAsync()` returned.
 * @throws {IdempotencyConfigurationError} when there is neither, or both.
 */
export function dataSourceOf(
  declared: DeclaredDataSource,
  ofFactory: DataSourceResolver | undefined,
): DataSource | DataSourceResolver {
  if (ofFactory !== undefined && (declared.kind === 'function' || declared.name !== undefined)) {
    throw fault(
      declared.kind === 'function' ? declared.resolve : declared.name,
      "It stands beside useFactory and in the factory's result: take one of them away.",
    );
  }
  if (ofFactory !== undefined) return ofFactory;
  if (declared.kind === 'function') return declared.resolve;
  const { name, found } = declared;
  if (found) return found;
  throw fault(
    name,
    name === undefined
      ? 'Import TypeOrmModule.forRoot() as well, or name the data source that the handlers use.'
      : `Import TypeOrmModule.forRoot({ name: '${name}', … }), or correct the name.`,
  );
}

function fault(received: unknown, fix: string): Error {
  return new IdempotencyConfigurationError({ option: 'dataSource', received, fix });
}
