/** The servers of `deploy/`, as tests start them. */
export { askLine, LOOPBACK, type LocalServer } from '../../deploy/local/local-server.js';
export {
  startMemcached,
  startMemcachedNodes,
  type MemcachedNodes,
  type MemcachedServer,
} from '../../deploy/local/memcached-server.js';
export { ACCESS_LOG, startNginx, type NginxServer } from '../../deploy/local/nginx-server.js';
export { startPgBouncer, type PgBouncerServer } from '../../deploy/local/pgbouncer-server.js';
export {
  startRedis,
  startRedisCluster,
  type RedisCluster,
  type RedisServer,
} from '../../deploy/local/redis-server.js';
