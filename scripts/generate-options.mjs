// Writes docs/options.md from the docstrings of the options in libs/idempotency/src:
//   node scripts/generate-options.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as prettier from 'prettier';
import ts from 'typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sourceDir = join(root, 'libs/idempotency/src');

export const OPTIONS_PAGE = join(root, 'docs/options.md');

const INTRODUCTION = `<!-- Made by scripts/generate-options.mjs from the docstrings of the options. Change them, not this page. -->

# Options

Values are checked at start. A wrong one throws \`IdempotencyConfigurationError\`, whose message names the option, the
value received and the fix. A name that is not in this list is refused as well.`;

const FILES = [
  'idempotency.options.ts',
  'duration.ts',
  'cache/memory/index.ts',
  'cache/redis/redis.options.ts',
  'cache/memcached/memcached.options.ts',
];

/** By the interface whose members they list; with `of` by several. `prefix` keeps equal names of two sections apart. */
const SECTIONS = {
  IdempotentOptions: {
    title: 'Options of a route',
    text:
      'They may be set on a method, on a class, and on the module. The method wins over its class, and the class over ' +
      'the module. `undefined` means "as the level above says".',
    example: `import { Idempotent, IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRoot({ onInFlight: 'wait', ttl: '48h' });

export class TransfersController {
  @Idempotent({ keyFormat: 'uuid', maxRuntime: '10s' })
  create(): void {}
}`,
  },
  IdempotencyModuleOptions: {
    title: 'Options of the module',
    text:
      'For `IdempotencyModule.forRoot()` and `forRootAsync()`, beside all of the above. They cannot be set per route. ' +
      'More on `dataSource` as a function: [tenants on several databases](tenants.md).',
    example: `import { IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRootAsync({
  dataSource: 'orders',
  imports: [ConfigModule],
  inject: [ConfigService],
  useFactory: (config: ConfigService) => ({ namespace: config.serviceName, reapInterval: '5m' }),
});`,
    // What the snippet needs and its reader does not: see check-docs.mjs.
    preamble: `declare class ConfigModule {}
declare class ConfigService { readonly serviceName: string }`,
  },
  CompleterOptions: {
    title: 'Options of the completer',
    text: 'For `completer`, an option of the module. `true` takes all defaults. More: [lease mode](lease-mode.md#the-completer).',
    example: `import { IdempotencyModule } from 'nestjs-pg-idempotency';

IdempotencyModule.forRoot({
  completer: { after: '5m', restore: (request, { scope }) => void (request.user = { id: scope }) },
});`,
  },
  ReplayCacheOptions: {
    title: 'Options of the replay cache',
    prefix: 'replayCache.',
    text:
      'For `replayCache`, an option of the module. It needs `memory`, `shared` or both. More: ' +
      '[scaling](scaling.md#the-replay-cache).',
    example: `import { IdempotencyModule } from 'nestjs-pg-idempotency';
import { memcachedCache } from 'nestjs-pg-idempotency/memcached';
import { memoryCache } from 'nestjs-pg-idempotency/memory';

IdempotencyModule.forRoot({
  replayCache: {
    memory: memoryCache({ maxAge: '30s' }),
    shared: memcachedCache({ nodes: ['cache-1:11211', 'cache-2:11211'] }),
    keys: [process.env['REPLAY_CACHE_KEY'] ?? ''],
  },
});`,
  },
  MemoryCacheOptions: {
    title: 'Options of memoryCache()',
    prefix: 'memoryCache.',
    text: 'Of `nestjs-pg-idempotency/memory`, for `replayCache.memory`. It needs `lru-cache` 11 beside it.',
  },
  RedisCacheOptions: {
    title: 'Options of redisCache()',
    prefix: 'redisCache.',
    of: [
      'RedisServerCacheOptions',
      'RedisSentinelCacheOptions',
      'RedisClusterCacheOptions',
      'RedisConnectionOptions',
    ],
    text:
      'Of `nestjs-pg-idempotency/redis`, for `replayCache.shared`. It needs `ioredis` 5 beside it. One of `url`, `sentinels` with ' +
      '`name`, and `cluster`. A `RedisAddress` is `{ host, port }`. More: [Redis](scaling.md#redis).',
    example: `import { redisCache } from 'nestjs-pg-idempotency/redis';

redisCache({ url: 'rediss://idempotency:secret@cache.example.com:6380' });
redisCache({ sentinels: [{ host: 'sentinel-1', port: 26379 }], name: 'mymaster' });
redisCache({ cluster: [{ host: 'redis-1', port: 6379 }, { host: 'redis-2', port: 6379 }] });`,
  },
  MemcachedCacheOptions: {
    title: 'Options of memcachedCache()',
    prefix: 'memcachedCache.',
    text:
      'Of `nestjs-pg-idempotency/memcached`, for `replayCache.shared`. It needs nothing beside it. More: ' +
      '[Memcached](scaling.md#memcached).',
  },
};

const TYPES = [
  'Duration',
  'AttemptMode',
  'OnAbandoned',
  'KeyFormat',
  'ScopeResolver',
  'FingerprintResolver',
  'StoreIf',
  'RestoreRequest',
  'DataSourceResolver',
  'MigrationMode',
];

/** The page as it should stand in docs/options.md. */
export async function optionsPage() {
  const files = FILES.map(parse);
  const declarations = files.flatMap((file) => [...file.statements]);
  const find = (name) => declarations.find((statement) => statement.name?.text === name);

  const parts = [INTRODUCTION];
  for (const [name, section] of Object.entries(SECTIONS)) {
    const members = (section.of ?? [name]).flatMap((each) => [...find(each).members]);
    parts.push(`## ${section.title}`, section.text, ...example(section));
    const rows = members.map((member) => summary(member, section));
    parts.push(['| option | default |', '| --- | --- |', ...rows].join('\n'));
    for (const member of members)
      parts.push(heading(member, section), signature(member), ...documentation(member));
  }
  parts.push('## Types');
  for (const name of TYPES) {
    const alias = find(name);
    parts.push(`### ${name}`, codeBlock(`type ${name} = ${alias.type.getText()};`), documentation(alias)[0]);
  }
  const options = await prettier.resolveConfig(OPTIONS_PAGE);
  return prettier.format(parts.join('\n\n'), { ...options, parser: 'markdown' });
}

function parse(name) {
  const path = join(sourceDir, name);
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
}

const nameOf = (member) => member.name.getText();
const codeBlock = (code, language = 'typescript') => `\`\`\`${language}\n${code}\n\`\`\``;
const anchorOf = (member, { prefix = '' }) => (prefix + nameOf(member)).toLowerCase().replace('.', '-');

function heading(member, section) {
  const { prefix } = section;
  return prefix
    ? `### <a id="${anchorOf(member, section)}"></a>${prefix}${nameOf(member)}`
    : `### ${nameOf(member)}`;
}

function signature(member) {
  return codeBlock(`${nameOf(member)}${member.questionToken ? '?' : ''}: ${member.type.getText()};`);
}

function example({ example: code, preamble }) {
  if (code === undefined) return [];
  const block = codeBlock(code, 'ts');
  return [preamble ? `<!-- with\n${preamble}\n-->\n\n${block}` : block];
}

function summary(member, section) {
  const value = asCode(defaultOf(member)).replaceAll('|', '\\|');
  return `| [\`${nameOf(member)}\`](#${anchorOf(member, section)}) | ${value} |`;
}

/** Docstring and default of a declaration, as paragraphs. */
function documentation(node) {
  const texts = ts
    .getJSDocCommentsAndTags(node)
    .filter(ts.isJSDoc)
    .map((doc) => ts.getTextOfJSDocComment(doc.comment) ?? '');
  if (texts.join('').trim() === '') throw new Error(`${nameOf(node)} has no docstring`);
  const value = defaultOf(node);
  return [
    texts.join('\n\n').replaceAll('\n', ' '),
    ...(value === undefined ? [] : [`Default: ${asCode(value)}.`]),
  ];
}

function defaultOf(node) {
  const tag = ts.getJSDocTags(node).find(({ tagName }) => tagName.text === 'default');
  return tag && ts.getTextOfJSDocComment(tag.comment);
}

/** Defaults that are values are code, with a remark in brackets behind them; the others are words. */
function asCode(text) {
  if (text === undefined) return '';
  const [, value, remark = ''] = /^(.*?)( \([^()]*\))?$/s.exec(text);
  const isValue = /^['"[{\d]|=>|\?\?|^(true|false)$/.test(value);
  return isValue ? `\`${value}\`${remark}` : text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(OPTIONS_PAGE, await optionsPage());
}
