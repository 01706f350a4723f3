import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';
import { describe, expect, it } from 'vitest';
import { memcachedFlags } from '../deploy/local/memcached-server.js';
import { upstreamServers } from '../deploy/local/nginx-server.js';
import { DEPLOY, render, variablesOf } from '../deploy/local/render.js';
import { TOPOLOGY } from '../deploy/local/topology.js';

interface Service {
  readonly image?: string;
  readonly build?: string | { readonly context: string; readonly dockerfile: string };
  readonly command?: string[];
  readonly entrypoint?: string[];
  readonly environment?: Record<string, string>;
  readonly ports?: string[];
  readonly volumes?: string[];
  readonly restart?: string;
  readonly healthcheck?: { readonly test: string[] };
  readonly depends_on?: Record<string, { readonly condition: string }>;
}

const COMPOSE = readFileSync('docker-compose.yml', 'utf8');
const { services, volumes } = load(COMPOSE) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};
const named = (pattern: RegExp): string[] => Object.keys(services).filter((name) => pattern.test(name));
const service = (name: string): Service => {
  const found = services[name];
  if (!found) throw new Error(`compose has no service ${name}`);
  return found;
};
const numbered = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${name}${index + 1}`);
/** What a Dockerfile takes from where it is built. */
const copied = (path: string): string[] =>
  [...readFileSync(path, 'utf8').matchAll(/^COPY (?!--from)(.+)$/gm)].flatMap(([, args]) =>
    (args as string).trim().split(/\s+/).slice(0, -1),
  );

describe('compose and the local starter', () => {
  it('start the same servers, as many of each', () => {
    expect(Object.keys(services).toSorted()).toEqual(
      [
        ...numbered('cart', TOPOLOGY.carts),
        ...numbered('memcached', TOPOLOGY.memcachedNodes),
        ...numbered('redis', TOPOLOGY.redisNodes),
        'nginx',
        'payments',
        'pgbouncer',
        'postgres',
        'redis-cluster',
      ].toSorted(),
    );
    const starter = readFileSync('scripts/start-scaled.mjs', 'utf8');
    for (const count of Object.keys(TOPOLOGY)) expect(starter).toContain(`TOPOLOGY.${count}`);
    for (const start of [
      'EmbeddedPostgres',
      'PgBouncer',
      'RedisCluster',
      'MemcachedNodes',
      'Nginx',
      'ProviderBeside',
    ]) {
      expect(starter).toContain(`start${start}(`);
    }
  });

  it.each([
    ['redis1', '/etc/redis.conf', 'redis.conf'],
    ['redis-cluster', '/create-redis-cluster.sh', 'create-redis-cluster.sh'],
    ['memcached1', '/etc/memcached.flags', 'memcached.flags'],
    ['nginx', '/etc/nginx/templates/nginx.conf.template', 'nginx.conf.template'],
  ])('give %s the same file', (name, target, file) => {
    expect(service(name).volumes).toContain(`./deploy/${file}:${target}:ro`);
    expect(existsSync(join(DEPLOY, file))).toBe(true);
    const starters = ['redis-server.ts', 'memcached-server.ts', 'nginx-server.ts'];
    expect(starters.map((path) => readFileSync(join(DEPLOY, 'local', path), 'utf8')).join('')).toContain(
      `'${file}'`,
    );
  });

  it('fill in every variable of the templates', () => {
    const provided = Object.keys(service('nginx').environment ?? {}).filter(
      (name) => name !== 'NGINX_ENVSUBST_OUTPUT_DIR',
    );
    expect(provided.toSorted()).toEqual(variablesOf('nginx.conf.template'));
    const given = Object.keys(service('pgbouncer').environment ?? {}).filter(
      (name) => name !== 'POSTGRES_PASSWORD',
    );
    expect(given.toSorted()).toEqual(variablesOf('pgbouncer.ini.template'));
  });

  it('put every instance behind nginx, in the same words', () => {
    const urls = numbered('cart', TOPOLOGY.carts).map((name) => `http://${name}:3000`);
    const words = (text: string | undefined): string[] => (text ?? '').trim().split(/\s+/);
    expect(words(service('nginx').environment?.['CART_SERVERS'])).toEqual(words(upstreamServers(urls)));
  });

  it('name every node of a cache to the cart', () => {
    const { REPLAY_CACHE: cache = '' } = service('cart1').environment ?? {};
    const nodes = numbered('redis', TOPOLOGY.redisNodes).map((name) => `${name}:6379`);
    expect(cache).toBe(`\${REPLAY_CACHE:-redis-cluster://${nodes.join(',')}}`);
    expect(service('redis-cluster').command?.slice(2)).toEqual(nodes);
    expect(COMPOSE).toContain(
      `memcached://${numbered('memcached', TOPOLOGY.memcachedNodes)
        .map((name) => `${name}:11211`)
        .join(',')}`,
    );
    expect(memcachedFlags()).toContain('-m');
  });

  it('send the cart through PgBouncer', () => {
    for (const name of named(/^cart\d/)) {
      expect(service(name).environment?.['DATABASE_URL']).toBe('postgres://cart@pgbouncer:6432/cart');
    }
  });
});

describe('compose', () => {
  it('waits for what a service needs, and knows by a health check when it is there', () => {
    for (const [name, { depends_on: needs = {} }] of Object.entries(services)) {
      for (const [needed, { condition }] of Object.entries(needs)) {
        if (needed === 'redis-cluster') {
          expect(condition).toBe('service_completed_successfully');
          continue;
        }
        expect({ name, needed, condition }).toEqual({ name, needed, condition: 'service_healthy' });
        const { build, healthcheck } = service(needed);
        const dockerfile = typeof build === 'string' ? 'Dockerfile' : 'deploy/pgbouncer.Dockerfile';
        if (build === undefined) expect({ needed, healthcheck }).toHaveProperty('healthcheck.test');
        else expect(readFileSync(dockerfile, 'utf8')).toContain('HEALTHCHECK');
      }
    }
  });

  it('starts again what ends', () => {
    for (const [name, { restart }] of Object.entries(services)) {
      expect([name, restart]).toEqual([name, name === 'redis-cluster' ? 'on-failure' : 'unless-stopped']);
    }
  });

  it('is reached on this machine alone', () => {
    for (const { ports = [] } of Object.values(services)) {
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    }
  });

  it('holds no secret: a password comes from the environment', () => {
    for (const { environment = {} } of Object.values(services)) {
      for (const [name, value] of Object.entries(environment)) {
        if (/PASSWORD/.test(name)) expect(value).toMatch(/^\$\{POSTGRES_PASSWORD:\?[^}]+\}$/);
        if (/KEY/.test(name)) expect(value).toBe('${REPLAY_CACHE_KEY:-}');
        expect(value).not.toMatch(/\/\/[^/@]*:[^/@]*@/);
      }
    }
  });

  it('keeps the rows of PostgreSQL, which needs nothing else to start', () => {
    expect(service('postgres').volumes).toEqual(['postgres:/var/lib/postgresql']);
    expect(Object.keys(volumes)).toEqual(['postgres']);
    expect(service('postgres').depends_on).toBeUndefined();
    // Nothing but the password is required of whoever starts it alone.
    expect(new Set([...COMPOSE.matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name))).toEqual(
      new Set(['POSTGRES_PASSWORD']),
    );
  });
});

describe('the images', () => {
  it('copy what is there', () => {
    for (const source of copied('Dockerfile')) expect([source, existsSync(source)]).toEqual([source, true]);
    for (const source of copied('deploy/pgbouncer.Dockerfile')) {
      expect([source, existsSync(join(DEPLOY, source))]).toEqual([source, true]);
    }
    const ignored = readFileSync('.dockerignore', 'utf8').split('\n');
    for (const source of copied('Dockerfile')) expect(ignored).not.toContain(source);
  });

  it('build nothing that they do not copy', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: { build: string } };
    const [program, flag, ...projects] = scripts.build.split(' ');
    expect([program, flag]).toEqual(['tsc', '-b']);
    expect(projects.length).toBeGreaterThan(0);
    for (const project of projects) expect(copied('Dockerfile')).toContain(project.split('/')[0]);
  });

  it('run as somebody who is not root', () => {
    for (const path of ['Dockerfile', 'deploy/pgbouncer.Dockerfile']) {
      const lastStage =
        readFileSync(path, 'utf8')
          .split(/^FROM /m)
          .at(-1) ?? '';
      expect(lastStage).toMatch(/^USER (?!root)\w+$/m);
    }
  });
});

describe('a template', () => {
  it('is not filled in without all of its values, nor with one that it does not take', () => {
    expect(() => render('pgbouncer.ini.template', {})).toThrow(
      'pgbouncer.ini.template: nothing is given for',
    );
    const values = Object.fromEntries(variablesOf('pgbouncer.ini.template').map((name) => [name, 1]));
    expect(render('pgbouncer.ini.template', values)).toContain('pool_mode = transaction');
    expect(() => render('pgbouncer.ini.template', { ...values, NOTHING: 1 })).toThrow(
      'there is no variable NOTHING',
    );
  });
});
