// `npm start`: builds what has changed since the last time, then runs the app in this very process, so that a signal
// from the terminal or from npm reaches it and nothing stands in between.
import { build } from './build.mjs';
import { endWithNpm } from './end-with-npm.mjs';

build(['libs/idempotency/tsconfig.lib.json', 'apps/cart/tsconfig.app.json']);
await import('../dist/apps/cart/main.js');
endWithNpm();
