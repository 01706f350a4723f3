// `npm run start:provider`: builds the payment provider when it has changed, then runs it in this very process.
import { build } from './build.mjs';
import { endWithNpm } from './end-with-npm.mjs';

build(['apps/payment-provider/tsconfig.app.json']);
await import('../dist/apps/payment-provider/main.js');
endWithNpm();
