// `npm start`: builds what has changed since the last time, starts the payment provider beside the app, then runs the app
// in this very process, so that a signal from the terminal or from npm reaches it and nothing stands in between.
import { build } from './build.mjs';
import { endWithNpm } from './end-with-npm.mjs';
import { startProviderBeside } from './start-provider-beside.mjs';

const projects = ['libs/idempotency/tsconfig.lib.json', 'apps/cart/tsconfig.app.json'];
const isProviderGiven = (process.env.PAYMENT_PROVIDER_URL ?? '').trim() !== '';
build(isProviderGiven ? projects : [...projects, 'apps/payment-provider/tsconfig.app.json']);
if (!isProviderGiven) process.env.PAYMENT_PROVIDER_URL = await startProviderBeside();
await import('../dist/apps/cart/main.js');
endWithNpm();
