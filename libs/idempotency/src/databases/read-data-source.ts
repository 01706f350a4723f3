import type { DataSource } from 'typeorm';

/**
 * Why something is no data source that can hold records, without showing it: what was received by mistake may be settings with a
 * password in them. `undefined` when it is one. Looked at by its shape: an application may have a second copy of TypeORM.
 */
export function faultOfDataSource(value: unknown): string | undefined {
  if (!isDataSource(value)) return kindOf(value);
  const { type } = value.options;
  if (type !== 'postgres') return `a DataSource of type '${type}'`;
  return value.isInitialized ? undefined : 'a DataSource that is not initialised';
}

export function isDataSource(value: unknown): value is DataSource {
  const { options, driver, createQueryRunner } = (value ?? {}) as Partial<Record<keyof DataSource, unknown>>;
  return typeof createQueryRunner === 'function' && isObject(options) && isObject(driver);
}

/** What sort of value it is, never what is in it. */
export function kindOf(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'function') return value.name ? `the function ${value.name}` : 'a function';
  if (!isObject(value)) return `a ${typeof value}`;
  if (Array.isArray(value)) return 'an array';
  const { name } = (value.constructor ?? {}) as { name?: unknown };
  return typeof name === 'string' ? `an object of class ${name}` : 'an object';
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Which database it is, for logs: no account, no password. */
export function nameOfDatabase(dataSource: DataSource): string {
  const { host, port, url } = dataSource.options as { host?: unknown; port?: unknown; url?: unknown };
  const { database } = dataSource.driver as { database?: unknown };
  const name = typeof database === 'string' ? database : 'without a name';
  const at = typeof url === 'string' && URL.canParse(url) ? new URL(url).host : hostOf(host, port);
  return at === '' ? name : `${name} at ${at}`;
}

function hostOf(host: unknown, port: unknown): string {
  if (typeof host !== 'string') return '';
  return typeof port === 'number' ? `${host}:${port}` : host;
}
