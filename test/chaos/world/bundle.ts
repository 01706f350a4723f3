// Puts an instance into one file, whose path is the argument: a function of `exports`, `require` and `__filename`. It starts in half the
// processor time of its hundreds of modules.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Plugin, rolldown } from 'rolldown';

const MAIN = fileURLToPath(new URL('../app/main.js', import.meta.url));

/** Not to be found here: packages that Nest and TypeORM load where an application has them. And what has to be loaded before all others. */
const APART =
  /^(?:reflect-metadata$|@nestjs\/(?:microservices|websockets|platform-socket\.io|mongoose)|class-transformer|class-validator|@fastify\/(?:static|view)|oracledb|mysql2?|mssql|sqlite3|better-sqlite3|sql\.js|mongodb|redis|@sap|@google-cloud|react-native|expo|pg-native|pg-query-stream|typeorm-aurora|hdb-pool|ts-node)/;

/** `@nestjs/typeorm` asks at run time for what TypeORM 1 does not have any more, and would load it once more from its files. */
const withoutSecondTypeorm: Plugin = {
  name: 'without-second-typeorm',
  load: (id) =>
    id.endsWith('/@nestjs/typeorm/dist/common/typeorm-compat.js')
      ? 'export const Connection = undefined;\nexport const AbstractRepository = undefined;\n'
      : null,
};

const [, , file] = process.argv;
if (file === undefined) throw new Error('the file of the bundle is missing');
const build = await rolldown({
  input: MAIN,
  platform: 'node',
  external: APART,
  plugins: [withoutSecondTypeorm],
  logLevel: 'silent',
});
const { output } = await build.generate({
  format: 'cjs',
  codeSplitting: false,
  dynamicImportInCjs: false,
  // Names are left alone: Nest, TypeORM and errors tell things by them.
  minify: { compress: false, mangle: false, codegen: { asciiOnly: true } },
});
await build.close();
writeFileSync(file, `(function (exports, require, __filename) {${output[0].code}\n})`);
