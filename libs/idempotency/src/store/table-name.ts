/** `name` or `schema.name`, quoted for SQL. Letters, digits and `_` only, so that quoting cannot be escaped from. */
export function quoteTable(table: string): string {
  return table
    .split('.')
    .map((part) => `"${part}"`)
    .join('.');
}

/** Name of a further object beside the table: `idempotency_keys` and `_expires_at` make an index in its schema. */
export function siblingName(table: string, suffix: string): string {
  return `${table.split('.').at(-1) ?? table}${suffix}`;
}

export function isTableName(value: unknown): value is string {
  return typeof value === 'string' && /^([A-Za-z_]\w{0,39}\.)?[A-Za-z_]\w{0,39}$/.test(value);
}

/** The journal of steps beside the table: `idempotency_steps` beside `idempotency_keys`. */
export function stepsTable(table: string): string {
  return `${table.replace(/_keys$/, '')}_steps`;
}

/** The trail of decisions beside the table: `idempotency_audit` beside `idempotency_keys`. */
export function auditTable(table: string): string {
  return `${table.replace(/_keys$/, '')}_audit`;
}
