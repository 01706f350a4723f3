/**
 * SHA-256 over the parts with their lengths before them: the primary key that the library gives a record. Each part is an expression of SQL. A
 * wrong one would be seen at once: what is looked for under it is not there.
 */
export const KEY_HASH_SQL = (...parts: readonly [namespace: string, scope: string, key: string]): string => {
  const bytes = parts.map((part) => `int4send(octet_length(${part})) || convert_to(${part}, 'UTF8')`);
  return `sha256(${bytes.join(' || ')})`;
};
