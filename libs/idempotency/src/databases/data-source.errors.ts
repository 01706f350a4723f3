/** The `dataSource` function failed, or returned something that no record can be kept in. */
export class DataSourceUnresolvedError extends Error {
  override readonly name = 'DataSourceUnresolvedError';
}

/** A database that is seen for the first time, or again after it was closed, cannot be used yet. The next request tries again. */
export class DatabaseNotPreparedError extends Error {
  override readonly name = 'DatabaseNotPreparedError';
}
