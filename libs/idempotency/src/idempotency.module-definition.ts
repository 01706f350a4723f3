import { ConfigurableModuleBuilder, type FactoryProvider } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';

export const IDEMPOTENCY_DATA_SOURCE = Symbol('IDEMPOTENCY_DATA_SOURCE');

/** What must be known before the options are: an asynchronous factory cannot decide what is injected. */
export type StructuralOptions = Pick<IdempotencyModuleOptions, 'dataSource'>;

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<Omit<IdempotencyModuleOptions, keyof StructuralOptions>>({
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

/** The data source by name, or an error that says what to import. */
function dataSourceProvider(name: string | undefined): FactoryProvider<DataSource> {
  const fault = (fix: string): Error =>
    new IdempotencyConfigurationError({ option: 'dataSource', received: name, fix });
  if (name !== undefined && (typeof name !== 'string' || name === '')) {
    throw fault(
      'Use the name that TypeOrmModule.forRoot({ name }) has, or leave it out for the default data source.',
    );
  }
  return {
    provide: IDEMPOTENCY_DATA_SOURCE,
    inject: [{ token: getDataSourceToken(name), optional: true }],
    useFactory: (found: DataSource | undefined): DataSource => {
      if (found) return found;
      throw fault(
        name === undefined
          ? 'Import TypeOrmModule.forRoot() as well, or name the data source that the handlers use.'
          : `Import TypeOrmModule.forRoot({ name: '${name}', … }), or correct the name.`,
      );
    },
  };
}
